import { parseObject } from "../../model/formats/files.js";
import { prettyJson } from "../../model/formats/folder.js";

/** A field of a JSON text's top object, and where its value stands. */
interface Member {
  readonly name: string;
  readonly start: number;
  readonly end: number;
}

/** A string, a mark, or anything else between marks and spaces. */
const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s"{}[\],:]+/g;

/**
 * Sets fields of the object that a JSON text holds, and leaves every other byte of it. `JSON.parse` and `stringify` would
 * not: 30.0 becomes 30, which transformers refuses where its class wants a float (Gemma 2's `final_logit_softcapping`).
 * @param what the text's name, for messages
 * @param changes a field that the object has not is put at its end
 * @throws InputError when the text is no JSON object
 */
export function editJson(what: string, text: string, changes: Readonly<Record<string, unknown>>): string {
  const before = parseObject(what, text);
  const members = membersOf(text);
  const same = (name: string) => JSON.stringify(before[name]) === JSON.stringify(changes[name]);
  const added = Object.keys(changes).filter((name) => !Object.hasOwn(before, name));
  if (members.length === 0) return added.length === 0 ? text : prettyJson(changes);
  let out = "";
  let at = 0;
  for (const { name, start, end } of members) {
    if (!Object.hasOwn(changes, name) || same(name)) continue;
    out += text.slice(at, start) + JSON.stringify(changes[name]);
    at = end;
  }
  const end = members[members.length - 1].end;
  if (added.length === 0) return out + text.slice(at);
  const indent = /^\s*\{(\s*)/.exec(text)![1];
  const fields = added.map((name) => `,${indent}${JSON.stringify(name)}: ${JSON.stringify(changes[name])}`);
  return out + text.slice(at, end) + fields.join("") + text.slice(end);
}

/** @param text of a valid JSON object */
function membersOf(text: string): Member[] {
  const members: Member[] = [];
  let depth = 0;
  /** The string that came last, and the field whose value is being read. */
  let last = "";
  let open: { name: string; start: number } | undefined;
  let end = 0;
  for (const { 0: token, index } of text.matchAll(TOKEN)) {
    if (open && depth === 1 && (token === "," || token === "}")) {
      members.push({ ...open, end });
      open = undefined;
    }
    if (open && open.start < 0) open.start = index;
    if (token === "{" || token === "[") depth++;
    else if (token === "}" || token === "]") depth--;
    else if (token === ":" && depth === 1 && !open) open = { name: JSON.parse(last) as string, start: -1 };
    if (token.startsWith('"')) last = token;
    end = index + token.length;
  }
  return members;
}
