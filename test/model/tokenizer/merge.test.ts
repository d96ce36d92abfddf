import fc from "fast-check";
import { expect, test } from "vitest";
import { Merger } from "../../../src/model/tokenizer/merge.js";

/** The rule as it is said: join the leftmost of the neighbours whose merge comes first, until none is left. */
function plain(piece: string, merges: readonly [string, string][]): string[] {
  const symbols = [...piece];
  for (;;) {
    let best: { rank: number; at: number } | undefined;
    for (let at = 0; at + 1 < symbols.length; at++) {
      const rank = merges.findIndex(([l, r]) => l === symbols[at] && r === symbols[at + 1]);
      if (rank >= 0 && (!best || rank < best.rank)) best = { rank, at };
    }
    if (!best) return symbols;
    symbols.splice(best.at, 2, symbols[best.at] + symbols[best.at + 1]);
  }
}

test("gives what the rule gives, for any list of merges in any order", () => {
  const word = fc.stringMatching(/^[ab🙂]{1,4}$/u);
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.tuple(word, word), { maxLength: 12, selector: ([l, r]) => `${l} ${r}` }),
      fc.array(fc.stringMatching(/^[ab🙂c]{0,24}$/u), { minLength: 1, maxLength: 4 }),
      (merges, pieces) => {
        const tokens = new Set(merges.flatMap(([l, r]) => [l, r, l + r]));
        for (const letter of "ab🙂") tokens.add(letter);
        const merger = new Merger(new Map([...tokens].map((token, id) => [token, id])), merges);
        for (const piece of pieces) {
          expect(merger.merge(piece)).toEqual(plain(piece, merges));
          expect(merger.merge(piece)).toEqual(plain(piece, merges));
        }
      },
    ),
    { numRuns: 2000 },
  );
});
