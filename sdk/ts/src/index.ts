export { domain, statements, kinds, outcomes, platforms } from "./statements.js";
export type { StatementName } from "./statements.js";
