// A counter: state that an attacker would like to turn back.
import { state } from "tacit";

export async function add({ by }: { by: number }): Promise<{ total: number }> {
  const total = (((await state.get("total")) as number | undefined) ?? 0) + by;
  await state.set("total", total);
  return { total };
}

export async function slow({ by, milliseconds }: { by: number; milliseconds: number }): Promise<{ total: number }> {
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
  return add({ by });
}

export async function read(): Promise<{ total: number }> {
  return { total: ((await state.get("total")) as number | undefined) ?? 0 };
}
