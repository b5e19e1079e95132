// Bundles the client into dist/client and prints what each page has to load. Run by `npm run build`.

import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

/** Bytes after gzip that a page may cost at most. */
const LIMIT = 2560;

const here = fileURLToPath(new URL('.', import.meta.url));
const entries = ['index.ts', 'worker.ts'];

const { metafile } = await build({
  absWorkingDir: here,
  entryPoints: entries,
  outdir: '../dist/client',
  bundle: true,
  minify: true,
  target: 'es2020',
  format: 'iife',
  charset: 'utf8',
  metafile: true,
  logLevel: 'error',
});

for (const file of Object.keys(metafile.outputs)) {
  const size = gzipSync(readFileSync(new URL(file, import.meta.url)), { level: 9 }).length;
  console.log(`${basename(file).padEnd(12)} ${(size / 1024).toFixed(2)} KB gzipped`);
  if (basename(file) === 'index.js' && size > LIMIT) {
    console.error(`The client script may have ${LIMIT} bytes gzipped at most: it has ${size}`);
    process.exitCode = 1;
  }
}
