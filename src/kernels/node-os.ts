/** Node's module of facts about the machine; undefined in browsers. */
export async function nodeOs(): Promise<typeof import("node:os") | undefined> {
  if (typeof process !== "object" || !process.versions?.node) return undefined;
  const name = "node:os"; // put together so that bundlers for browsers leave it alone
  return (await import(/* @vite-ignore */ name)) as typeof import("node:os");
}
