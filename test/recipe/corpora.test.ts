import { describe, expect, test } from "vitest";
import { shared, sharedPath } from "../shared.js";

interface Documents {
  readonly name: string;
  readonly training: string[];
  readonly validation: string[];
  readonly dropped: number;
}

const lib = (file: string) =>
  import(new URL(`../../models/tiny-gpt/recipe/lib/${file}`, import.meta.url).href);
const { detokenise } = await lib("detokenise.mjs");
const { readCorpora, articles, captions, shakespeare, withoutCommon } = await lib("corpora.mjs");

describe("detokenise", () => {
  test.each([
    [" = = Gameplay = = ", "== Gameplay =="],
    [" = Don 't Take It <unk> , Babe = ", "= Don't Take It <unk>, Babe ="],
    [
      "a tactical role @-@ playing game ( 14 @,@ 508 @.@ 5 km / h )",
      "a tactical role-playing game (14,508.5 km/h)",
    ],
    ["The game 's theme was sung by May 'n .", "The game's theme was sung by May'n."],
    ['the " Nameless " , or " <unk> Raven " .', 'the "Nameless", or "<unk> Raven".'],
    ["other characters ' turns ; the word ' god ' here", "other characters' turns; the word 'god' here"],
    ["Blowin ' in the Wind", "Blowin' in the Wind"],
    ["his third album 's ' One ' or", "his third album's 'One' or"],
    ["born in the ' 90s", "born in the '90s"],
    ["born in the ' 90s , ' he said ' so", "born in the '90s, 'he said' so"],
    ["5 ' 11 \" ( 1 @.@ 80 m ) tall", "5' 11\" (1.80 m) tall"],
    ["from 1914 – 18 , a 6 – 0 win – at 19 : 30", "from 1914–18, a 6–0 win – at 19:30"],
    ["R & B by Simon & Schuster", "R&B by Simon & Schuster"],
    ["US $ 5 @.@ 3 million , $ <unk> , a # 1 hit", "US$5.3 million, $<unk>, a #1 hit"],
    ["32 ° C , 41 ° N and 3 ° .", "32 °C, 41° N and 3°."],
    ["them — not us ... the others", "them—not us ... the others"],
    ["It ’ s “ real ” : [ sic ] \ufeff !", "It’s “real”: [sic]!"],
    ["at − 20 and L − 1", "at −20 and L − 1"],
    [" ", ""],
  ])("%j", (tokens, text) => {
    expect(detokenise(tokens)).toBe(text);
  });
});

test("articles begin at titles with an empty line on either side", () => {
  const text =
    " \n = One = \n \n First . \n = Goals ; A = \n \n = = Part = = \n \n Second . \n \n = Two = \n \n Third . \n";
  expect(articles(text)).toEqual([
    "= One =\n\nFirst.\n= Goals; A =\n\n== Part ==\n\nSecond.",
    "= Two =\n\nThird.",
  ]);
  expect(() => articles("First .\n")).toThrow("line 1: expected an article's title first");
});

test("captions are lines", () => {
  expect(captions("A dog. \n\nA cat.\n")).toEqual(["A dog.", "A cat."]);
});

test("Shakespeare's documents are whole speeches, and join to the text", () => {
  const text = Array.from({ length: 2000 }, (_, i) => `ROMEO:\nLine ${i} of the play.`).join("\n\n");
  const { training, validation } = shakespeare(text);
  expect([...training, ...validation].join("\n\n")).toBe(text);
  for (const document of training) expect(document).toMatch(/^ROMEO:\n/);
  const share = validation.join("\n\n").length / text.length;
  expect(share).toBeGreaterThan(0.0);
  expect(share).toBeLessThanOrEqual(0.05);
});

test("what any corpus trains on validates nowhere", () => {
  const given = [
    { name: "a", training: ["x", "y"], validation: ["z", "w"] },
    { name: "b", training: ["z"], validation: ["x", "x", "v"] },
  ];
  expect(withoutCommon(given)).toEqual([
    { ...given[0], validation: ["w"], dropped: 1 },
    { ...given[1], validation: ["v"], dropped: 2 },
  ]);
});

test.skipIf(!shared)("the corpora themselves", () => {
  const corpora: Documents[] = readCorpora(sharedPath("corpora"));
  // Merity et al. 2016: WikiText-2 has 600 articles to train on and 60 to validate; Multi30k has 29000 and 1014 captions.
  expect(corpora.map(({ name, training }) => [name, training.length])).toEqual([
    ["wikitext-2", 600],
    ["multi30k", 29000],
    ["tinyshakespeare", 464],
  ]);
  expect(corpora.map(({ validation, dropped }) => validation.length + dropped)).toEqual([60, 1014, 25]);
  for (const { training, validation } of corpora)
    for (const text of [...training, ...validation]) expect(text.trim() === text && text !== "").toBe(true);
  expect(corpora[0].training.join("\n")).not.toMatch(/ @[-,.]@ | [,;)]/);
});
