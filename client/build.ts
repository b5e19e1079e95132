// Bundles the client into dist/client, and prints and bounds what pages have to load. Run by `npm run build`.

import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { minify } from 'terser';

/**
 * Bytes after gzip at most: what every page loads; what all tabs load once, and each at its first change (6 KB together);
 * and what few ever load.
 */
const LIMITS: Record<string, number> = {
  index: 2560,
  worker: 944,
  change: 5200,
  assets: 2560,
  overlay: 1536,
};

const out = new URL('../dist/client/', import.meta.url);
mkdirSync(out, { recursive: true });

type Format = 'iife' | 'esm';

async function bundle(name: string, format: Format, define: Record<string, string> = {}): Promise<Buffer> {
  const { outputFiles } = await build({
    absWorkingDir: fileURLToPath(new URL('.', import.meta.url)),
    entryPoints: [`${name}.ts`],
    bundle: true,
    minifySyntax: true,
    target: 'es2020',
    format,
    charset: 'utf8',
    define,
    logLevel: 'error',
    write: false,
  });
  // What is strict is checked before; and some percent smaller than what esbuild makes by itself.
  const text = outputFiles[0]?.text.replace(/^"use strict";\n/, '') ?? '';
  const { code = '' } = await minify(text, {
    module: format === 'esm',
    toplevel: true,
    ecma: 2020,
    // Unsafe is only what tells a Symbol from a string, or asks an arrow for its prototype: there is neither.
    compress: { passes: 3, inline: 1, hoist_funs: format === 'esm', unsafe: true, unsafe_arrows: true },
  });
  const script = Buffer.from(code);
  writeFileSync(new URL(`${name}.js`, out), script);
  const size = gzipSync(script, { level: 9 }).length;
  console.log(`${`${name}.js`.padEnd(12)} ${(size / 1024).toFixed(2)} KB gzipped`);
  const limit = LIMITS[name] ?? Infinity;
  if (size > limit) {
    console.error(`${name}.js may have ${limit} bytes gzipped at most: it has ${size}`);
    process.exitCode = 1;
  }
  return script;
}

// A page joins only the worker it was built with: one that is left of an older version is another.
const hash = createHash('sha256')
  .update(await bundle('worker', 'iife'))
  .digest('base64url')
  .slice(0, 4);
await bundle('index', 'iife', { WORKER: JSON.stringify(`live-sse ${hash}`) });
// Fetched when they are needed
for (const name of ['change', 'assets', 'keep', 'adopted', 'overlay', 'template', 'foreign'])
  await bundle(name, 'esm');

// The types of the events that pages hear; at run time there is nothing to it.
copyFileSync(new URL('events.d.ts', import.meta.url), new URL('events.d.ts', out));
writeFileSync(new URL('events.js', out), 'export {};\n');
