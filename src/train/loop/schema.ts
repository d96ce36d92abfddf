import { defaultOf, dependents, exclusives, fillSettings } from "./settings.js";
import { type Setting, type SettingName, table } from "./settings-table.js";

/** The JSON schema (draft 2020-12) of the file that `lmhead train --config` reads. */
export function settingsSchema(): Record<string, unknown> {
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Settings of lmhead train",
    type: "object",
    additionalProperties: false,
    properties: {
      $schema: { type: "string", description: "for editors; not read" },
      ...Object.fromEntries(
        (Object.entries(table) as [SettingName, Setting][]).map(([name, setting]) => [
          name,
          property(name, setting),
        ]),
      ),
    },
    allOf: [
      ...exclusives.map((pair) => ({ not: { required: [...pair] } })),
      ...dependents.map(({ name, of, words }) => ({
        if: { required: [name] },
        // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON schema
        then: {
          properties: { [of]: { enum: [...words] } },
          ...(!words.includes(defaults[of]) && { required: [of] }),
        },
      })),
      {
        if: { properties: { freeze: { const: "body" } }, required: ["freeze"] },
        // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON schema
        then: { required: ["init"] },
      },
    ],
  };
}

const defaults = fillSettings("defaults", {});

function property(name: SettingName, setting: Setting): Record<string, unknown> {
  const byDefault = defaultOf(name);
  const description = byDefault === undefined ? setting.about : `${setting.about} (default: ${byDefault})`;
  switch (setting.kind) {
    case "whole":
    case "number": {
      const { min, max, above } = setting;
      return {
        type: setting.kind === "whole" ? "integer" : "number",
        ...(min !== undefined && (above ? { exclusiveMinimum: min } : { minimum: min })),
        ...(setting.kind === "whole" && { maximum: Number.MAX_SAFE_INTEGER }),
        ...(max !== undefined && { maximum: max }),
        description,
      };
    }
    case "word":
      return { enum: [...setting.words], description };
    case "flag":
      return { type: "boolean", description };
    case "text":
    case "path":
      return { type: "string", minLength: 1, description };
    case "texts":
      return { type: "array", items: { type: "string" }, description };
  }
}
