/** The page's own style. Colours are variables, which the charts read too; a printed page is always light. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --page: #ffffff; --text: #1c2128; --quiet: #59636e; --border: #d8dee4; --raised: #f6f8fa; --grid: #e7ebef;
  --faint: #a9c8ee; --training: #1f6bc4; --validation: #cf4a12;
}
@media screen and (prefers-color-scheme: dark) {
  :root:not(.printing) {
    --page: #14171c; --text: #e3e7ec; --quiet: #9aa5b1; --border: #323a44; --raised: #1c2128; --grid: #272e37;
    --faint: #3b6396; --training: #6cb0ff; --validation: #ff9a5c;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 1000px; padding: 28px 20px 48px; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere;
}
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 18px; margin: 36px 0 12px; }
h3 { font-size: 13px; font-weight: 600; color: var(--quiet); margin: 18px 0 6px; }
.quiet { color: var(--quiet); font-size: 13px; margin: 0; }
.empty { border: 1px dashed var(--border); border-radius: 8px; padding: 20px; margin: 24px 0 0; }
.facts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(250px, 100%), 1fr)); gap: 1px; margin: 22px 0 0;
  border: 1px solid var(--border); border-radius: 8px; overflow: hidden; background: var(--border);
}
.facts div { background: var(--raised); padding: 12px 16px; }
.facts dt { color: var(--quiet); font-size: 13px; }
.facts dd { margin: 0; }
.facts dd:first-of-type { font-size: 20px; font-weight: 600; line-height: 1.35; font-variant-numeric: tabular-nums; }
.facts dd + dd { color: var(--quiet); font-size: 13px; }
.curves { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: baseline; gap: 0 24px; }
.curves label { font-size: 13px; color: var(--quiet); }
.curves input { margin: 0 6px 0 0; vertical-align: -2px; accent-color: var(--training); }
figure { margin: 0 0 22px; break-inside: avoid; }
figcaption { display: flex; flex-wrap: wrap; gap: 0 8px; align-items: baseline; }
figcaption b { font-size: 15px; }
.legend { min-height: 24px; }
.plot { height: 200px; overflow: hidden; }
.plot.tall { height: 320px; }
.uplot .u-legend, .legend .u-legend { font-size: 13px; margin: 0; text-align: left; font-variant-numeric: tabular-nums; }
.legend .u-series > * { padding: 1px 2px 1px 0; }
.legend .u-series th { font-weight: 400; color: var(--quiet); }
.legend .u-series:first-child th { cursor: default; }
.legend .u-series:first-child .u-marker { display: none; }
.legend .u-live th::after { content: ""; }
.legend .u-value { min-width: 9ch; padding-left: 4px; }
.legend .validation .u-value { min-width: 17ch; }
.legend .u-marker { width: 12px; height: 3px; border: 0; }
.u-select { background: color-mix(in srgb, var(--training) 15%, transparent); }
.sample {
  margin: 0 0 8px; padding: 10px 14px; background: var(--raised); border: 1px solid var(--border); border-radius: 8px;
  white-space: pre-wrap; break-inside: avoid; unicode-bidi: plaintext;
}
.sample b { font-weight: 650; }
.sample i { color: var(--quiet); }
details { margin-top: 16px; }
summary { cursor: pointer; font-weight: 600; }
pre {
  margin: 12px 0 0; padding: 14px 16px; background: var(--raised); border: 1px solid var(--border); border-radius: 8px;
  font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre-wrap;
}
@media (max-width: 560px) {
  figure:first-of-type .legend { min-height: 68px; }
  figure:last-of-type .legend { min-height: 46px; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 12px; }
  .curves label, .hint { display: none; }
  .plot { height: 180px; }
}
`.trim();
