// Every command and every snippet of the README, run. One that is added there needs its check here.

import { mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:http';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { get, navigation, openStream, until } from './harness.ts';
import { checkout, installed, type Program, runProgram } from './installed.ts';

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
const blocks = [...readme.matchAll(/^```(sh|js)\n([\s\S]*?)^```$/gm)].map(([, language = '', code = '']) => ({
  language,
  code,
}));

const { scripts } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));

const home = await installed();
test.after(() => home[Symbol.dispose]());
home.write('site/index.html', '<!doctype html><title>Site</title>');
home.write('site/a.css', 'a{}');
home.write('views/a.html', '');
home.write('src/app.js', 'console.log(1);');
mkdirSync(home.file('dist'));
// What a user has installed besides.
symlinkSync(new URL('../node_modules/esbuild', import.meta.url).pathname, home.file('node_modules/esbuild'));

/** The checks by the code they run: each gets the program that the block has started. */
const snippets: [starts: string, check: (program: Program) => Promise<void>][] = [
  [
    "import { start } from 'live-sse';\n\nawait using server",
    async (program) => {
      assert.match(await program.output(), /^http:\/\/localhost:\d+\/\n$/);
    },
  ],
  [
    "import { watch } from 'node:fs'",
    async (program) => {
      const url = await program.url();
      using stream = await openStream(`${url}__events`);
      await stream.next('hello');
      home.write('site/index.html', '<!doctype html><title>Built</title>');
      await until('the built page', async () =>
        /<title>Built/.test((await get(url, '/', { headers: navigation })).text),
      );
      await until('its event', () => stream.events.some(({ data }) => data.includes('/index.html')));
    },
  ],
  [
    "import { createServer } from 'node:http';\nimport { live }",
    async (program) => {
      const url = await program.url();
      assert.match((await get(url, '/', { headers: navigation })).text, /__events\/client\.js/);
      using stream = await openStream(`${url}__events`);
      await stream.next('hello');
      home.write('views/a.html', 'changed');
      await stream.next('reload');
    },
  ],
  [
    "import { start } from 'live-sse';\n\nconst server = await start({ root: 'site', port: 0 });\nsetInterval",
    async (program) => {
      using stream = await openStream(`${await program.url()}__events`);
      assert.match((await stream.next('clock')).data, /^{"time":\d+}$/);
    },
  ],
];

for (const { code } of blocks.filter(({ language }) => language === 'js')) {
  const [first = ''] = code.split('\n');
  test(`the snippet that starts with ${first}`, async () => {
    const [, check] = snippets.find(([starts]) => code.startsWith(starts)) ?? [];
    assert.ok(check, 'it has no check in this file');
    // As TypeScript and bundlers do it, for a Node without `await using`.
    const { transform } = await import('esbuild');
    home.write('snippet.mjs', (await transform(code, { target: 'node20', format: 'esm' })).code);
    using program = runProgram(process.execPath, ['snippet.mjs', '0'], home.path);
    await check?.(program);
  });
}

snippets.push(
  [
    "import { context } from 'esbuild'",
    async (program) => {
      const url = await program.url();
      using stream = await openStream(`${url}__events`);
      await stream.next('hello');
      await until('the first build', async () => (await get(url, '/app.js')).status === 200);
      home.write('src/app.js', 'console.log(2);');
      await until('its event', () => stream.events.some(({ data }) => data.includes('/app.js')));
    },
  ],
  [
    '// A clock for any number of pages',
    async (program) => {
      assert.ok(readme.includes(readFileSync(new URL('sites/clock/server.js', import.meta.url), 'utf8')));
      using stream = await openStream(`${await program.url()}events`);
      assert.is((await stream.next('message')).data, '这是消息');
      assert.match((await stream.next('time')).data, /^\d+:\d\d:\d\d/);
      await until('the count', () => program.printed().includes('1 consumers'));
    },
  ],
);

const commands: Record<string, () => Promise<void>> = {
  'npx live-sse ./site': async () => {
    using program = runProgram('npx', ['live-sse', './site'], home.path);
    const url = await program.url();
    assert.match((await get(url, '/', { headers: navigation })).text, /<title>/);
    await until('the greeting', () =>
      program.printed().includes(`live-sse serves site\n\n  ${url}\n\nSave a file`),
    );
  },
  'npm install --save-dev live-sse': async () => {
    assert.ok(home.packed.length > 0); // installed() has done so, from the package that this repository makes
  },
  'curl -N localhost:8080/__events': async () => {
    using program = runProgram('npx', ['live-sse', './site'], home.path);
    const { host } = new URL(await program.url());
    using curl = runProgram('curl', ['-sN', `${host}/__events`], home.path);
    await until('the first event', () =>
      /^retry: 500\nid: \w+-0\n\nevent: hello\nid: \w+-0\ndata: {"boot":"\w+","version":1,"types":\[\]}\n\n/.test(
        curl.printed(),
      ),
    );
    home.write('site/a.css', `a{order:${process.pid}}`);
    await until('the css event', () =>
      /event: css\nid: \w+-1\ndata: {"paths":\["\/a\.css"\]}\n\n/.test(curl.printed()),
    );
  },
  'npx live-sse dist --watch src --run "npm run build"': async () => {
    home.write('package.json', JSON.stringify({ type: 'module', scripts: { build: 'node build.mjs' } }));
    home.write('build.mjs', "import { cpSync } from 'node:fs'; cpSync('src', 'dist', { recursive: true });");
    home.write('src/built.css', 'a{}');
    using program = runProgram(
      'npx',
      ['live-sse', 'dist', '--watch', 'src', '--run', 'npm run build'],
      home.path,
    );
    const url = await program.url();
    await until('the first build', async () => (await get(url, '/built.css')).status === 200, 60_000);
    await until('its line', () => /\d {2}(reload|css) /.test(program.printed()));
    using stream = await openStream(`${url}__events`);
    await stream.next('hello');
    home.write('src/built.css', 'a{color:red}');
    await until('its event', () =>
      stream.events.some(({ type, data }) => type === 'css' && data.includes('/built.css')),
    );
  },
  'npx live-sse --proxy http://localhost:3000 --watch views': async () => {
    const backend = createServer((_req, res) => {
      res.setHeader('Content-Type', 'text/html').end('<!doctype html><title>Back end</title>');
    });
    await new Promise<void>((resolve) => backend.listen(0, '127.0.0.1', resolve));
    const { port } = backend.address() as { port: number };
    using program = runProgram(
      'npx',
      ['live-sse', '--proxy', `http://127.0.0.1:${port}`, '--watch', 'views'],
      home.path,
    );
    const url = await program.url();
    const page = await get(url, '/any', { headers: navigation });
    using stream = await openStream(`${url}__events`);
    await stream.next('hello');
    home.write('views/a.html', 'changed again');
    assert.is((await stream.next('reload')).data, '{"paths":[]}');
    backend.close();
    backend.closeAllConnections();
    assert.match(page.text, /<title>Back end/);
    assert.match(page.text, /__events\/client\.js/);
  },
  'npm ci && npm start': async () => {
    using copy = checkout();
    using program = runProgram('npm', ['start', '--', '--port', '0'], copy.path);
    assert.match((await get(await program.url(), '/', { headers: navigation })).text, /__events\/client\.js/);
  },
  // The run that this test is part of, and others that it cannot hold.
  'npm ci && npm test': async () => assert.is(scripts.test, 'tsx test/run.ts'),
  'npm run test:engines': async () =>
    assert.is(scripts['test:engines'], 'tsx test/run.ts --engine=chromium,firefox,webkit'),
  'npm run test:node': async () => assert.is(scripts['test:node'], 'tsx test/run.ts --nodes'),
};

for (const { code } of blocks.filter(({ language }) => language === 'sh')) {
  test(`the command ${code.trim()}`, async () => {
    const check = commands[code.trim()];
    assert.ok(check, 'it has no check in this file');
    await check?.();
  });
}

test('the README names every flag that --help does', () => {
  const help = readFileSync(new URL('../src/cli.ts', import.meta.url), 'utf8').matchAll(
    /\{ name: '([\w-]+)'/g,
  );
  const flags = [...help].map(([, name]) => name);
  assert.ok(flags.length > 10);
  assert.equal(
    flags.filter((name) => !readme.includes(`\`--${name}`)),
    [],
  );
});

test.run();
