import fc from "fast-check";
import { expect, test } from "vitest";
import { InputError } from "../../../src/errors.js";
import { editJson } from "../../../src/train/loop/edit-json.js";

test("leaves every byte but the values", () => {
  const text = `{\r
  "final_logit_softcapping": 30.0, "nested": {"torch_dtype": "x", "a": [1, {"b": 2.0}]},\r
  "torch_dtype" :\t"bfloat16" ,  "quoted \\"torch_dtype\\": ": "}{",\r
  "rope_theta": 1e6}\r
`;
  expect(editJson("c", text, { torch_dtype: "float32", tie_word_embeddings: false })).toBe(
    text.replace('"bfloat16"', '"float32"').replace("1e6}", '1e6,\r\n  "tie_word_embeddings": false}'),
  );
  expect(editJson("c", text, {})).toBe(text);
});

test("sets every one of a doubled field, and fields whose names are escaped", () => {
  expect(editJson("c", '{"a":1,"a":[2,3],"\\u0061":4}', { a: null })).toBe(
    '{"a":null,"a":null,"\\u0061":null}',
  );
});

test("fills an empty object", () => {
  expect(JSON.parse(editJson("c", " {} ", { a: 1 }))).toEqual({ a: 1 });
});

test("means what an assignment means, for any object, and says it twice as once", () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.string(), fc.jsonValue()),
      fc.dictionary(fc.string(), fc.jsonValue(), { maxKeys: 3 }),
      fc.constantFrom(undefined, 2, "\t"),
      (before, changes, space) => {
        const known = JSON.parse(JSON.stringify([before, changes]));
        const edited = editJson("c", JSON.stringify(known[0], null, space), known[1]);
        // "__proto__" is a field as any other.
        const wanted = new Map([...Object.entries(known[0]), ...Object.entries(known[1])]);
        expect(new Map(Object.entries(JSON.parse(edited)))).toEqual(wanted);
        expect(editJson("c", edited, known[1])).toBe(edited);
      },
    ),
    { numRuns: 300 },
  );
});

test("refuses what is no object", () => {
  for (const text of ["", "[]", "{", "3"])
    expect(() => editJson("config.json", text, {})).toThrow(InputError);
});
