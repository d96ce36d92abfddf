import { describe, expect, it } from "vitest";
import { LanguageModel } from "../../src/node.js";
import { shared, sharedPath } from "../shared.js";

describe.skipIf(!shared)("text that goes on", () => {
  it("has no space but its own, whatever the tokenizer puts before a text", async () => {
    const model = await LanguageModel.load(sharedPath("models/stories260K"), { device: "reference" });
    const next = await model.next("Once upon a");
    const [first] = await next.top(1);
    expect(first.token).toBe(" time");
    expect(await next.rank(" time")).toBe(1);
    expect(await next.logProb(" time")).toBeCloseTo(first.logProb, 6);
    await model.close();
  });
});
