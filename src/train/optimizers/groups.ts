import { checkFields, InputError } from "../../errors.js";
import type { Update } from "./optimizer.js";
import { checkParameters, type Parameter } from "./parameter.js";

/** Parameters that differ from the rest in some options. */
export interface Group<O> {
  /** Names the group in errors. */
  readonly name: string;
  /** Names of its parameters; each must exist and be in no other group. */
  readonly parameters: readonly string[];
  /** What replaces the optimizer's own options, and the default of no weight decay for vectors. */
  readonly options: O;
}

/** Which parameters differ: named groups, or a function that gives a parameter's own options (undefined: none). */
export type Grouping<O> = readonly Group<O>[] | ((parameter: Parameter) => O | undefined);

/**
 * Each parameter's update by name, with its options bound: the optimizer's (with `weightDecay` 0 for vectors: norms and
 * biases), replaced by those of its group. A field that is undefined counts as not given.
 * @throws InputError for parameters that do not fit, a group with an unknown field or parameter, a parameter in two groups, or
 *   as `updateOf` does
 */
export function bind<O extends { readonly weightDecay?: number }>(
  what: string,
  parameters: readonly Parameter[],
  base: (parameter: Parameter) => O,
  grouping: Grouping<O> = [],
  updateOf: (parameter: Parameter, options: O) => Update,
): ReadonlyMap<string, Update> {
  checkParameters(what, parameters);
  const own = typeof grouping === "function" ? grouping : byName(what, parameters, grouping);
  const optionsOf = (parameter: Parameter): O => ({
    ...given(base(parameter)),
    ...(parameter.kind === "vector" && { weightDecay: 0 }),
    ...given(own(parameter)),
  });
  return new Map(parameters.map((parameter) => [parameter.name, updateOf(parameter, optionsOf(parameter))]));
}

function byName<O>(
  what: string,
  parameters: readonly Parameter[],
  groups: readonly Group<O>[],
): (parameter: Parameter) => O | undefined {
  const known = new Set(parameters.map(({ name }) => name));
  const groupOf = new Map<string, Group<O>>();
  for (const group of groups) {
    checkFields(`${what}: group "${group.name}"`, group, ["name", "parameters", "options"]);
    for (const name of group.parameters) {
      if (!known.has(name))
        throw new InputError(
          `${what}: group "${group.name}": no parameter is named "${name}"; the names are ${[...known].join(", ")}`,
        );
      const other = groupOf.get(name);
      if (other)
        throw new InputError(
          `${what}: parameter "${name}" is listed by group "${other.name}" and by group "${group.name}"; list it once`,
        );
      groupOf.set(name, group);
    }
  }
  return ({ name }) => groupOf.get(name)?.options;
}

function given<O extends object>(options: O | undefined): O {
  return Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value !== undefined)) as O;
}
