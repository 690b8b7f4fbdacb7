#!/usr/bin/env node
// The npm compiler behind the native compiler's command line, as py-solc-x, ape, forge and slither call it:
//   solc --version
//   solc --standard-json [--base-path DIR] [--include-path DIR]... [--allow-paths ...]   (JSON on standard input)
// The package's own program reads standard input in one gulp and fails on a pipe (EAGAIN).
"use strict";
const fs = require("fs");
const path = require("path");
const compiler = require(path.join(__dirname, "..", "..", "node_modules", "solc"));

const args = process.argv.slice(2);
const valuesOf = (flag) => args.flatMap((arg, i) => (arg === flag ? [args[i + 1]] : arg.startsWith(flag + "=") ? [arg.slice(flag.length + 1)] : []));

if (args.includes("--version")) {
  process.stdout.write(`solc, the solidity compiler commandline interface\nVersion: ${compiler.version()}\n`);
  process.exit(0);
}
if (!args.includes("--standard-json")) {
  process.stderr.write("solc.js: only --version and --standard-json are supported\n");
  process.exit(1);
}
const roots = [...valuesOf("--base-path"), ...valuesOf("--include-path")];
if (roots.length === 0) roots.push(process.cwd());

const findImport = (name) => {
  for (const root of roots) {
    const file = path.resolve(root, name);
    if (file.startsWith(path.resolve(root) + path.sep) && fs.existsSync(file)) return { contents: fs.readFileSync(file, "utf8") };
  }
  return { error: `File not found: ${name} below ${roots.join(", ")}` };
};

const chunks = [];
process.stdin.on("data", (chunk) => chunks.push(chunk));
process.stdin.on("end", () => {
  const answer = compiler.compile(Buffer.concat(chunks).toString("utf8"), { import: findImport });
  process.stdout.write(answer, () => process.exit(0));
});
