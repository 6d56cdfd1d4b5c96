// static/src -> static/dist: bundles, the sprite of the icons in use, and compressed copies.
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import * as esbuild from "esbuild";

const SOURCE = "static/src";
const TARGET = "static/dist";
const ENTRIES = ["app.ts", "console.ts", "theme.ts", "app.css"];
const ICONS = "node_modules/@tabler/icons/icons";

// {% icon "x" %}, {% nav_link ... "x" %}, {icons}#x, and icon="x" or icon = "x" in Python.
const USES = [
  /{% icon "([a-z0-9-]+)"/g,
  /{% nav_link [^%]*"([a-z0-9-]+)" %}/g,
  /{icons}#([a-z0-9-]+)/g,
  /\bicon\s*[=(]\s*"([a-z0-9-]+)"/g,
];

function filesBelow(directory, suffix) {
  return readdirSync(directory, { recursive: true })
    .filter((name) => name.endsWith(suffix))
    .map((name) => join(directory, name));
}

function iconNames() {
  const names = new Set();
  for (const path of [...filesBelow("templates", ".html"), ...filesBelow("kvmweb", ".py")]) {
    const text = readFileSync(path, "utf8");
    for (const use of USES) for (const [, name] of text.matchAll(use)) names.add(name);
  }
  for (const path of filesBelow(SOURCE, ".ts")) {
    const found = readFileSync(path, "utf8").matchAll(/icons\.svg#([a-z0-9-]+)/g);
    for (const [, name] of found) names.add(name);
  }
  return [...names].sort();
}

function symbol(name) {
  const isFilled = name.endsWith("-filled");
  const path = isFilled
    ? join(ICONS, "filled", `${name.slice(0, -"-filled".length)}.svg`)
    : join(ICONS, "outline", `${name}.svg`);
  if (!existsSync(path)) throw new Error(`There is no icon “${name}” in @tabler/icons.`);
  const body = readFileSync(path, "utf8")
    .replace(/^[\s\S]*?<svg[^>]*>/, "")
    .replace(/<\/svg>\s*$/, "");
  const paint = isFilled
    ? 'fill="currentColor"'
    : 'fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"';
  const lines = body.replace(/\s*\n\s*/g, "");
  return `<symbol id="${name}" viewBox="0 0 24 24" ${paint}>${lines}</symbol>`;
}

function writeSprite() {
  const symbols = iconNames().map(symbol).join("\n");
  writeFileSync(
    join(TARGET, "icons.svg"),
    `<svg xmlns="http://www.w3.org/2000/svg">\n${symbols}\n</svg>\n`,
  );
}

/** whitenoise serves the .br or .gz beside a file to browsers that take it. */
function writeCompressedCopies() {
  for (const path of readdirSync(TARGET).map((name) => join(TARGET, name))) {
    if (!/\.(js|css|svg)$/.test(path)) continue;
    const content = readFileSync(path);
    const params = { [constants.BROTLI_PARAM_QUALITY]: 9 };
    writeFileSync(`${path}.gz`, gzipSync(content, { level: 9 }));
    writeFileSync(`${path}.br`, brotliCompressSync(content, { params }));
  }
}

const isWatching = process.argv.includes("--watch");
const options = {
  entryPoints: ENTRIES.map((name) => join(SOURCE, name)).filter((path) => existsSync(path)),
  outdir: TARGET,
  bundle: true,
  format: "esm",
  splitting: true, // one htmx, whichever entries a page loads
  chunkNames: "chunk-[hash]",
  target: ["chrome120", "firefox125", "safari17"],
  minify: !isWatching,
  sourcemap: isWatching ? "inline" : false,
  legalComments: "none",
  logLevel: "info",
};

rmSync(TARGET, { recursive: true, force: true });
mkdirSync(TARGET, { recursive: true });
writeSprite();
copyFileSync(join(SOURCE, "favicon.svg"), join(TARGET, "favicon.svg"));
if (isWatching) {
  const context = await esbuild.context(options);
  await context.watch();
} else {
  await esbuild.build(options);
  writeCompressedCopies();
}
