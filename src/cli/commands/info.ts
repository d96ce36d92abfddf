import { Command } from "commander";
import type { ModelInfo } from "../../node.js";
import { withModel } from "../load.js";
import { addModelOptions, type JsonFlag, jsonOption, type ModelFlags } from "../options.js";
import { bytes, colours, grouped, json, percent, printable, table } from "../render.js";

/** `lmhead info`: what a checkpoint is, and what its vocabulary costs. */
export function infoCommand(signal: AbortSignal): Command {
  const command = new Command("info").description("describe a model: shapes, parameters, tying, formats");
  return addModelOptions(command)
    .addOption(jsonOption())
    .addHelpText("after", "\nExample:\n  lmhead info --model model.gguf")
    .action((flags: ModelFlags & JsonFlag) =>
      withModel(flags, signal, async ({ model }) => {
        const info = model.info();
        process.stdout.write(flags.json ? `${json(info)}\n` : `${infoTable(info)}\n`);
      }),
    );
}

/** The facts as a table of two columns, and the stored formats as a second. */
export function infoTable(info: ModelInfo): string {
  const colour = colours(process.stdout);
  // Names come out of files: nothing in them may reach the terminal as a control sequence.
  const special = [
    info.bosId === undefined ? "no BOS" : `BOS ${info.bosId}`,
    info.eosIds.length === 0 ? "no end token" : `end ${info.eosIds.join(", ")}`,
  ];
  const facts: [string, string][] = [
    ["model", printable(info.name)],
    ["format", info.format],
    ["architecture", `${info.family} (${printable(info.architecture)})`],
    ["vocabulary V", vocabularyLine(info)],
    ["hidden size D", grouped(info.hiddenSize)],
    ["layers", grouped(info.layers)],
    ["attention heads", `${info.heads}, keys and values ${info.kvHeads}`],
    ["context", `${grouped(info.maxPositions)} tokens`],
    ["parameters", grouped(info.parameters)],
    [
      "of them vocabulary",
      `${grouped(info.vocabularyParameters)} (${percent(info.vocabularyShare)} of all parameters)`,
    ],
    ["tied", `${info.tied ? "yes" : "no"}: ${info.howTied}`],
    ["head", `logits = ${info.head}`],
    ["special ids", special.join("; ")],
    ["memory", `${bytes(info.memory)} held`],
    ["device", info.device],
  ];
  const formats = info.formats.map(({ type, tensors, bytes: size }) => [type, grouped(tensors), bytes(size)]);
  return [
    table([{ title: "" }, { title: "" }], facts, (cell, column) => (column === 0 ? colour.bold(cell) : cell)),
    "",
    table(
      [{ title: "stored as" }, { title: "tensors", align: "right" }, { title: "size", align: "right" }],
      formats,
      (cell, _, row) => (row < 0 ? colour.bold(cell) : cell),
    ),
  ].join("\n");
}

function vocabularyLine(info: ModelInfo): string {
  const size = `${grouped(info.vocabSize)} tokens`;
  if (info.paddedRows === 0) return `${size}, no padded rows`;
  return `${size} of ${grouped(info.rows)} rows; ${grouped(info.paddedRows)} padded rows ${info.padding}`;
}
