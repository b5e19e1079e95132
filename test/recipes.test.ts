// Every command and snippet of README, "With a build": each with the tool itself, on sources that are saved and broken.

import { mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { get, openStream, until, type WireEvent } from './harness.ts';
import { blocksOf, installed, type Program, runnable, runProgram } from './installed.ts';

/** Without content: it is removed. */
type Source = readonly [name: string, content?: string];

interface Recipe {
  readonly files: Readonly<Record<string, string>>;
  /** What the first build makes: a path, and what is in it. */
  readonly made: readonly [path: string, content: RegExp];
  readonly saved: Source;
  /** The type of the event that the saved source becomes; it names the path that was made. */
  readonly event: 'css' | 'reload';
  readonly broken: Source;
  /** What the pages hear of the broken one. */
  readonly failure: RegExp;
}

const TSCONFIG = '{ "compilerOptions": { "rootDir": "src", "outDir": "dist", "types": [] } }';
const ROLLUP_LIKE = {
  files: { 'src/app.js': 'console.log(1);', 'dist/index.html': '' },
  made: ['/app.js', /log\(1\)/],
  saved: ['src/app.js', 'console.log(2);'],
  event: 'reload',
  broken: ['src/app.js', 'console.log(2;'],
} as const;

/** The recipes by a part of their code. */
const recipes: Readonly<Record<string, Recipe>> = {
  'npm run build': {
    files: {
      'package.json': JSON.stringify({ type: 'module', scripts: { build: 'node build.mjs' } }),
      'build.mjs': `import { cpSync, readFileSync } from 'node:fs';
if (readFileSync('src/a.css', 'utf8').includes('{{')) throw new Error('two braces');
cpSync('src', 'dist', { recursive: true });`,
      'src/a.css': 'a{}',
    },
    made: ['/a.css', /a{}/],
    saved: ['src/a.css', 'a{color:red}'],
    event: 'css',
    broken: ['src/a.css', 'a{{'],
    failure: /two braces/,
  },
  '--run tsc': {
    files: { 'tsconfig.json': TSCONFIG, 'src/app.ts': 'export const a: number = 1;' },
    made: ['/app.js', /a = 1/],
    saved: ['src/app.ts', 'export const a: number = 2;'],
    event: 'reload',
    broken: ['src/app.ts', 'export const a: number = "two";'],
    failure: /src\/app\.ts.*TS2322/,
  },
  'sass src:dist': {
    files: { 'src/a.scss': '$c: red; p { color: $c }' },
    made: ['/a.css', /color: red/],
    saved: ['src/a.scss', '$c: blue; p { color: $c }'],
    event: 'css',
    broken: ['src/a.scss', 'p { color: $missing }'],
    failure: /Undefined variable.*src\/a\.scss/,
  },
  tailwindcss: {
    files: {
      'src/app.css': '@import "tailwindcss";',
      'src/index.html': '<!doctype html><p class="text-red-500">',
    },
    made: ['/app.css', /text-red-500/],
    saved: ['src/app.css', '@import "tailwindcss"; @theme { --color-red-500: #f01 }'],
    event: 'css',
    broken: ['src/app.css', '@import "tailwindcss"; p { @apply nothing-like-it }'],
    failure: /nothing-like-it/,
  },
  eleventy: {
    files: { 'src/index.md': '# One' },
    made: ['/', /<h1>One/],
    saved: ['src/index.md', '# Two'],
    event: 'reload',
    broken: ['src/index.md', '{{ "x" | nothing }}'],
    failure: /undefined filter: nothing/,
  },
  "from 'esbuild'": { ...ROLLUP_LIKE, failure: /Expected \\"\)\\" but found/ },
  "from 'rollup'": { ...ROLLUP_LIKE, failure: /"file":"src\/app\.js"/ },
  'const build = async': {
    files: { 'site/index.html': '<!doctype html>one' },
    made: ['/', /one/],
    saved: ['site/index.html', '<!doctype html>two'],
    event: 'reload',
    broken: ['site/index.html'],
    failure: /ENOENT/,
  },
};

const modules = fileURLToPath(new URL('../node_modules/', import.meta.url));
const home = await installed();
test.after(() => home[Symbol.dispose]());
// What a user has installed besides.
for (const name of [
  'esbuild',
  'rollup',
  'tailwindcss',
  '.bin/tsc',
  '.bin/sass',
  '.bin/tailwindcss',
  '.bin/eleventy',
]) {
  const link = home.file(join('node_modules', name));
  mkdirSync(dirname(link), { recursive: true });
  symlinkSync(join(modules, name), link);
}

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
const [section = ''] = /^### With a build\n[\s\S]*?(?=^### )/m.exec(readme) ?? [];
const blocks = blocksOf(section);

for (const [i, { language, code }] of blocks.entries()) {
  const lines = code.trim().split('\n');
  test(`the recipe ${lines.find((line) => line.includes('live-sse') && language === 'sh') ?? lines[0]}`, async () => {
    const [, recipe] = Object.entries(recipes).find(([part]) => code.includes(part)) ?? [];
    assert.ok(recipe, 'it has no check in this file');
    const dir = `recipe-${i}`;
    for (const [name, content] of Object.entries(recipe.files)) home.write(`${dir}/${name}`, content);
    home.write(`${dir}/run.mjs`, language === 'js' ? await runnable(code) : '');
    const command = language === 'js' ? 'exec node run.mjs' : `exec ${code.trim()} --port 0`;
    using program = runProgram('sh', ['-c', command], home.file(dir));
    await check(program, recipe, dir).catch((error: Error) => {
      throw new Error(`${error.message}\n${program.printed()}`, { cause: error });
    });
  });
}

async function check(program: Program, recipe: Recipe, dir: string): Promise<void> {
  const url = await program.url();
  const [path, content] = recipe.made;
  await until(`${content} in ${path}`, async () => content.test((await get(url, path)).text), 60_000);
  // A save after the first build, not during it.
  const isServer = /Save a file to see it/.test(program.printed());
  const hasRun = () => !isServer || /\d {2}(reload|css) /.test(program.printed());
  await until('the line of the first build', hasRun, 30_000);
  using stream = await openStream(`${url}__events`);
  await stream.next('hello');
  const save = ([name, text]: Source) =>
    text === undefined
      ? rmSync(home.file(`${dir}/${name}`), { force: true })
      : home.write(`${dir}/${name}`, text);

  save(recipe.saved);
  const event = await until(
    'an event',
    () => stream.events.find(({ type }) => /^(css|reload)$/.test(type)),
    30_000,
  );
  assert.is(event.type, recipe.event);
  assert.ok(event.data.includes(`"${path.replace(/\/$/, '/index.html')}"`), event.data);

  const isBad = ({ type, data }: WireEvent) => type === 'failure' && data !== 'null';
  let again = 0;
  const look = () => {
    // Once more where a tool has missed it: Rollup's watcher drops what comes within 50 ms of the change before.
    if (performance.now() > again) {
      save(recipe.broken);
      again = performance.now() + 5000;
    }
    return stream.events.find(isBad);
  };
  const failure = await until('a failure', look, 30_000);
  assert.match(failure.data, recipe.failure);
}

test.run();
