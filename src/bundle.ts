// Bundles src/ into dist/. Run by `npm run bundle`.

import { readFile } from 'node:fs/promises';
import { type BuildOptions, build, type Plugin } from 'esbuild';

/**
 * What is imported from Node.js and from packages of CommonJS is asked for where it stands: Node takes 7 ms longer to make
 * ES modules of it, which is a tenth of the time to the first answer.
 */
const required: Plugin = {
  name: 'required',
  setup({ onLoad }) {
    onLoad({ filter: /[\\/]src[\\/]\w+\.ts$/ }, async ({ path }) => ({
      loader: 'ts',
      contents: (await readFile(path, 'utf8')).replace(
        /^import (?!type\b)([^'";]+) from '(node:[\w/]+|mri|sirv)';$/gm,
        (_, names: string, name: string) => `const ${bindings(names)} = ${request(name)};`,
      ),
    }));
  },
};

/** What an import binds, as a pattern: `{ a as b, type C }` is `{ a: b }`. */
function bindings(names: string): string {
  return names
    .replace(/^\* as /, '')
    .replace(/\btype \w+,?/g, '')
    .replace(/(\w+) as (\w+)/g, '$1: $2');
}

function request(name: string): string {
  return `nodeRequire('${name}')`;
}

const shared: BuildOptions = {
  outdir: 'dist',
  bundle: true,
  splitting: true,
  minify: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  external: ['chokidar', 'mri', 'open', 'sirv'],
  banner: {
    // By its other name, esbuild leaves it alone.
    js: "import{createRequire}from'node:module';const require=createRequire(import.meta.url),nodeRequire=require;",
  },
  logLevel: 'warning',
};

await build({ ...shared, entryPoints: ['src/cli.ts', 'src/index.ts'], plugins: [required] });
// By themselves, so that what they need is no file of its own that the others have to load.
await build({ ...shared, entryPoints: ['src/sse.ts', 'src/plugin.ts'] });
