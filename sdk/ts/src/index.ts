export { domain, statements, kinds, outcomes, platforms } from "./statements.js";
export type { StatementName } from "./statements.js";
export { loadVerifier } from "./verifier.js";
export type { Question, Report, Step, Verifier } from "./verifier.js";
