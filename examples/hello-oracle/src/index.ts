// Watches a public page: fetches it from inside the worker, and remembers what it saw.

import { state } from "tacit";

type Observation = { digest: string; status: number; seen: number; changed: boolean };

/** Fetches the page and says whether it changed since the last time. A command: it writes state. */
export async function observe(): Promise<Observation> {
  const response = await fetch("https://example.com/");
  const digest = toHex(await crypto.subtle.digest("SHA-256", await response.arrayBuffer()));
  const before = (await state.get("last")) as Observation | undefined;
  const observation = {
    digest,
    status: response.status,
    seen: (before?.seen ?? 0) + 1,
    changed: before !== undefined && before.digest !== digest,
  };
  await state.set("last", observation);
  return observation;
}

/** The last observation, or null. A query: it reads state, and a quorum confirms that the state is the newest. */
export async function last(): Promise<Observation | null> {
  return ((await state.get("last")) as Observation | undefined) ?? null;
}

function toHex(buffer: ArrayBuffer): string {
  return Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
