import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { scriptJson } from "../../../src/train/report/html.js";

describe("scriptJson", () => {
  it("is the value, with nothing that HTML reads in a script", () => {
    const pieces = fc.array(
      fc.constantFrom("</script>", "<!--", "<script", "<", "\\u003c", '"', "\u2028", "a"),
    );
    fc.assert(
      fc.property(pieces, (texts) => {
        const value = { [texts.join("")]: texts };
        expect(scriptJson(value)).not.toContain("<");
        expect(JSON.parse(scriptJson(value))).toEqual(value);
      }),
    );
  });
});
