// Every command and every snippet of the README, run; those of "With a build" in recipes.test.ts. One that is added there
// needs its check here.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { get, navigation, openStream, until } from './harness.ts';
import { blocksOf, checkout, installed, type Program, runnable, runProgram } from './installed.ts';

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
const [recipes = ''] = /^### With a build\n[\s\S]*?(?=^### )/m.exec(readme) ?? [];
const blocks = blocksOf(readme.replace(recipes, ''));

const { scripts } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));

const home = await installed();
test.after(() => home[Symbol.dispose]());
home.write('site/index.html', '<!doctype html><title>Site</title>');
home.write('site/a.css', 'a{}');
home.write('views/a.html', '');

/** The checks by the code they run: each gets the program that the block has started. */
const snippets: [starts: string, check: (program: Program) => Promise<void>][] = [
  [
    "import { start } from 'live-sse';\n\nawait using server",
    async (program) => {
      assert.match(await program.output(), /^http:\/\/localhost:\d+\/\n$/);
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

// What runs in a page is run in one: test/browser/client.test.ts.
const isForPages = (code: string) => code.startsWith('addEventListener(');
for (const { code } of blocks.filter(({ language, code }) => language === 'js' && !isForPages(code))) {
  const [first = ''] = code.split('\n');
  test(`the snippet that starts with ${first}`, async () => {
    const [, check] = snippets.find(([starts]) => code.startsWith(starts)) ?? [];
    assert.ok(check, 'it has no check in this file');
    home.write('snippet.mjs', await runnable(code));
    using program = runProgram(process.execPath, ['snippet.mjs', '0'], home.path);
    await check?.(program);
  });
}

snippets.push([
  '// A clock for any number of pages',
  async (program) => {
    assert.ok(readme.includes(readFileSync(new URL('sites/clock/server.js', import.meta.url), 'utf8')));
    using stream = await openStream(`${await program.url()}events`);
    assert.is((await stream.next('message')).data, '这是消息');
    assert.match((await stream.next('time')).data, /^\d+:\d\d:\d\d/);
    await until('the count', () => program.printed().includes('1 consumers'));
  },
]);

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
  'npx live-sse reload site/about.html': async () => {
    using program = runProgram('npx', ['live-sse', './site'], home.path);
    using stream = await openStream(`${await program.url()}__events`);
    await stream.next('hello');
    using reload = runProgram('npx', ['live-sse', 'reload', 'site/about.html'], home.path);
    assert.is((await stream.next('reload')).data, '{"paths":["/about.html"]}');
    assert.match(await reload.output(), /Sent reload to 1 browser at http:\/\/localhost:\d+\/\n$/);
  },
  'npx live-sse send clock \'{"time":1}\'': async () => {
    using program = runProgram('npx', ['live-sse', './site'], home.path);
    using stream = await openStream(`${await program.url()}__events`);
    await stream.next('hello');
    using send = runProgram('npx', ['live-sse', 'send', 'clock', '{"time":1}'], home.path);
    assert.is((await stream.next('clock')).data, '{"time":1}');
    assert.match(await send.output(), /Sent clock to 1 browser /);
  },
  'curl -X POST localhost:8080/__events/reload': async () => {
    using program = runProgram('npx', ['live-sse', './site'], home.path);
    const { host } = new URL(await program.url());
    using curl = runProgram('curl', ['-s', '-X', 'POST', `${host}/__events/reload`], home.path);
    assert.is(await curl.output(), '{"clients":0}\n');
  },
  'curl --json \'{"message":"Unexpected ;","file":"src/a.py","line":3}\' localhost:8080/__events/failure':
    async () => {
      using program = runProgram('npx', ['live-sse', './site'], home.path);
      const { host } = new URL(await program.url());
      const failure = '{"message":"Unexpected ;","file":"src/a.py","line":3}';
      using curl = runProgram('curl', ['-s', '--json', failure, `${host}/__events/failure`], home.path);
      assert.is(await curl.output(), '{"clients":0}\n');
      using stream = await openStream(`http://${host}/__events`);
      assert.is((await stream.next('failure')).data, failure);
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
    assert.is((await stream.next('reload')).data, '{"paths":["/__events/client.js"]}');
    backend.close();
    backend.closeAllConnections();
    assert.match(page.text, /<title>Back end/);
    assert.match(page.text, /__events\/client\.js/);
  },
  'npx live-sse public --watch views --cors=http://localhost:3000': async () => {
    home.write('public/a.css', 'a{}');
    const flags = ['--watch', 'views', '--cors=http://localhost:3000', '--port', '0'];
    using program = runProgram('npx', ['live-sse', 'public', ...flags], home.path);
    const url = await program.url();
    const origin = 'http://localhost:3000';
    const headers = { referer: `${origin}/`, 'sec-fetch-site': 'same-site' };
    const script = await get(url, '/__events/client.js', { headers });
    assert.is(script.headers['cross-origin-resource-policy'], 'cross-origin');
    using stream = await openStream(`${url}__events`, { origin });
    assert.is(stream.headers['access-control-allow-origin'], origin);
    await stream.next('hello');
    home.write('public/a.css', 'a{color:red}');
    assert.is((await stream.next('css')).data, '{"paths":["/a.css"]}');
    home.write('views/a.html', 'changed for others');
    await stream.next('reload');
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
