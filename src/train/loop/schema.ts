import { type Setting, type SettingName, table } from "./settings.js";

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
          property(setting),
        ]),
      ),
    },
  };
}

function property(setting: Setting): Record<string, unknown> {
  const description = setting.about;
  switch (setting.kind) {
    case "whole":
    case "number": {
      const { min, max, above } = setting;
      return {
        type: setting.kind === "whole" ? "integer" : "number",
        ...(min !== undefined && (above ? { exclusiveMinimum: min } : { minimum: min })),
        ...(max !== undefined && { maximum: max }),
        description,
      };
    }
    case "word":
      return { enum: [...setting.words], description };
    case "flag":
      return { type: "boolean", description };
    case "text":
      return { type: "string", minLength: 1, description };
    case "texts":
      return { type: "array", items: { type: "string" }, description };
  }
}
