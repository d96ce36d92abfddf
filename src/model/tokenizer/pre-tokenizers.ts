/**
 * How each pre-tokenizer that a GGUF file may name (`tokenizer.ggml.pre`) cuts text into pieces before merging:
 * regular expressions, each applied inside the pieces that the one before left; matches and the gaps between them
 * all become pieces. From llama.cpp's `llama-vocab.cpp`, with the originals of the models' tokenizer.json where
 * llama.cpp's own can't say them.
 *
 * Left out, so refused: digits grouped from the right (tiny_aya, cohere2moe, superbpe, afmoe: quadratic on long
 * digits), the ▁-texts (gemma4, granite-embed-multi-311m, sarvam-moe, whitespace) and what is not known exactly.
 */
export interface PreTokenizer {
  readonly patterns: readonly string[];
  /** A piece that is a token is taken whole, without merging. */
  readonly ignoreMerges: boolean;
  /** Whether BOS is added when the file does not say. */
  readonly addsBos: boolean;
}

// The parts of which most patterns are made.
const K = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
const G = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)";
const T = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const WORD = "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+";
const SIGNS = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*";

const LLAMA3 = `${K}|${WORD}|\\p{N}{1,3}|${SIGNS}|${T}`;
const QWEN2 = `${K}|${WORD}|\\p{N}|${SIGNS}|${T}`;
const BAILING = `'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|${WORD}|\\p{N}|${SIGNS}|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+`;

const UPPER = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
const LOWER = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
/** Words of which at most the beginning is upper case; `k` follows each. */
const cased = (k: string, upper = UPPER, lower = LOWER): string =>
  `[^\\r\\n\\p{L}\\p{N}]?${upper}*${lower}+${k}|[^\\r\\n\\p{L}\\p{N}]?${upper}+${lower}*${k}`;
const slashed = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*";
const GPT4O = `${cased(`${K}?`)}|\\p{N}{1,3}|${slashed}|${T}`;
const NO_HAN = (set: string): string => `(?:(?!\\p{Script=Han})${set})`;

const CJK = "[\\u4E00-\\u9FA5\\u3040-\\u309F\\u30A0-\\u30FF]+";
const DEEPSEEK3_HEAD =
  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+";
const DEEPSEEK_CJK = "[\\u4E00-\\u9FA5\\u0800-\\u4E00\\uAC00-\\uD7FF]+";
/** deepseek-llm's own class of cased letters. */
const LETTERS =
  "[A-Za-z\\u00B5\\u00C0-\\u00D6\\u00D8-\\u00F6\\u00F8-\\u01BA\\u01BC-\\u01BF\\u01C4-\\u0293\\u0295-\\u02AF\\u0370-\\u0373\\u0376\\u0377\\u037B-\\u037D\\u037F\\u0386\\u0388-\\u038A\\u038C\\u038E-\\u03A1\\u03A3-\\u03F5\\u03F7-\\u0481\\u048A-\\u052F\\u0531-\\u0556\\u10A0-\\u10C5\\u13A0-\\u13F5\\u13F8-\\u13FD\\u1C90-\\u1CBA\\u1CBD-\\u1CBF\\u1D00-\\u1D2B\\u1D6B-\\u1D77\\u1D79-\\u1D9A\\u1E00-\\u1F15\\u1F18-\\u1F1D\\u1F20-\\u1F45\\u1F48-\\u1F4D\\u1F50-\\u1F57\\u1F59\\u1F5B\\u1F5D\\u1F5F-\\u1F7D\\u1F80-\\u1FB4\\u1FB6-\\u1FBC\\u1FBE\\u1FC2-\\u1FC4\\u1FC6-\\u1FCC\\u1FD0-\\u1FD3\\u1FD6-\\u1FDB\\u1FE0-\\u1FEC\\u1FF2-\\u1FF4\\u1FF6-\\u1FFC\\u2102\\u2107\\u210A-\\u2113\\u2115\\u2119-\\u211D\\u2124\\u2126\\u2128\\u212A-\\u212D\\u212F-\\u2134\\u2139\\u213C-\\u213F\\u2145-\\u2149\\u214E\\u2183\\u2184\\u2C00-\\u2C7B\\u2C7E-\\u2CE4\\u2CEB-\\u2CEE\\u2CF2\\u2CF3\\uA640-\\uA66D\\uA680-\\uA69B\\uA722-\\uA76F\\uA771-\\uA787\\uA78B-\\uA78E\\uAB70-\\uABBF\\uFB00-\\uFB06\\uFB13-\\uFB17\\uFF21-\\uFF3A\\uFF41-\\uFF5A\\u{10400}-\\u{1044F}\\u{104B0}-\\u{104D3}\\u{104D8}-\\u{104FB}\\u{10C80}-\\u{10CB2}\\u{10CC0}-\\u{10CF2}\\u{118A0}-\\u{118DF}\\u{1E900}-\\u{1E943}]";
const BLOOM = " ?[^(\\s|.,!?…。，、।۔،)]+";

interface Row {
  readonly names: string;
  readonly patterns: readonly string[];
  readonly ignoreMerges?: boolean;
  readonly addsBos?: boolean;
}

const ROWS: readonly Row[] = [
  { names: "default", patterns: ["[\\p{P}\\$\\+<=>\\^~\\|]+", G, "\\p{N}+", "[0-9][0-9][0-9]"] },
  {
    names:
      "gpt-2 phi-2 mpt olmo jais jina-es jina-de jina-v2-es jina-v2-de gigachat a.x-4.0 mellum modern-bert exaone4 trillion granite-docling roberta-bpe jina-v1-en jina-v2-code",
    patterns: [G],
  },
  {
    names: "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2",
    patterns: ["\\p{N}", G],
  },
  {
    names: "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
    patterns: [LLAMA3],
    ignoreMerges: true,
    addsBos: true,
  },
  { names: "dbrx smaug-bpe chatglm-bpe glm4", patterns: [LLAMA3] },
  {
    names: "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2",
    patterns: [QWEN2],
  },
  {
    names: "qwen35",
    patterns: [`${K}|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|${T}`],
  },
  { names: "ufakzeka", patterns: [`${WORD}|\\p{N}|${SIGNS}|${T}`] },
  { names: "minicpm5", patterns: ["\\p{N}{1,3}", `${K}|${WORD}|\\p{N}+|${SIGNS}|${T}`], ignoreMerges: true },
  { names: "laguna", patterns: ["[^\\n]+|[\\n]+", QWEN2] },
  {
    names: "jais-2",
    patterns: [
      `${K}|${WORD}|\\p{N}{1,3}|${SIGNS}|\\s*[\\r\\n]+|${[512, 256, 128, 64, 32, 16, 8, 4, "1,2"]
        .map((n) => `\\s{${n}}(?!\\S)`)
        .join("|")}|\\s{1}`,
    ],
  },
  {
    names: "seed-coder",
    patterns: [`${K}|${WORD}|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|${T}`],
  },
  { names: "bailingmoe bailingmoe2 llada-moe", patterns: [BAILING] },
  {
    names: "exaone-moe",
    patterns: [
      `${K}|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+`,
    ],
  },
  { names: "tekken", patterns: [`${cased("")}|\\p{N}|${slashed}|${T}`], ignoreMerges: true, addsBos: true },
  { names: "gpt-4o llama4 kanana2 talkie minimax-m2", patterns: [GPT4O] },
  { names: "granite-embed-multi-97m", patterns: [GPT4O], ignoreMerges: true },
  {
    names: "deepseek-v3 hunyuan-dense joyai-llm hy_v4",
    patterns: ["\\p{N}{1,3}", CJK, `${DEEPSEEK3_HEAD}[\\r\\n]*|${T}`],
  },
  {
    names: "spark2_5",
    patterns: ["\\p{N}{1,3}", CJK, `${DEEPSEEK3_HEAD}|[\\r\\n]|\\s+(?!\\S)|\\s+`, "\\p{N}"],
  },
  {
    names: "deepseek-coder",
    patterns: ["[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", DEEPSEEK_CJK, "\\p{N}"],
  },
  {
    names: "deepseek-llm",
    patterns: [
      "[\\r\\n]",
      `\\s?${LETTERS}+`,
      "\\s?[!-/:-~\\uFF01-\\uFF0F\\uFF1A-\\uFF5E\\u2018-\\u201F\\u3000-\\u3002]+",
      "\\s+$",
      DEEPSEEK_CJK,
      "\\p{N}+",
    ],
  },
  { names: "falcon", patterns: ["[\\p{P}\\$\\+<=>\\^~\\|`]+", G, "[0-9][0-9][0-9]"] },
  { names: "bloom poro-chat gpt3-finnish", patterns: [BLOOM] },
  { names: "viking", patterns: [BLOOM, "\\p{N}"] },
  {
    names: "chameleon",
    patterns: [
      "<sentinel:[0-9]+>",
      "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
      "([\\t\\n]|    |  )",
      "\\p{N}",
      "[\\p{P}!-/:-@\\[-`{-~]",
      G,
    ],
    addsBos: true,
  },
  {
    names: "kimi-k2",
    patterns: [`\\p{Script=Han}+|${cased(`${K}?`, NO_HAN(UPPER), NO_HAN(LOWER))}|\\p{N}{1,3}|${SIGNS}|${T}`],
  },
];

const BY_NAME = new Map<string, PreTokenizer>(
  ROWS.flatMap(({ names, patterns, ignoreMerges = false, addsBos = false }) =>
    names.split(" ").map((name): [string, PreTokenizer] => [name, { patterns, ignoreMerges, addsBos }]),
  ),
);

/** The pre-tokenizer of this name; undefined when it is not known: nobody should guess. */
export function preTokenizer(name: string): PreTokenizer | undefined {
  return BY_NAME.get(name);
}

/** Every name that `preTokenizer` knows. */
export function preTokenizerNames(): string[] {
  return [...BY_NAME.keys()];
}
