import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { request } from 'node:http';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { names, openInEditor, placeOf } from '../src/editor.ts';
import type { Failure } from '../src/events.ts';
import { type LiveServer, start } from '../src/index.ts';
import { type Folder, folder, until, within } from './harness.ts';

const asked: [data: unknown, line: number | undefined, column: number | undefined][] = [
  [['a.js', 3, 7], 3, 7],
  [['a.js', '3', null], 3, undefined],
  [['a.js'], undefined, undefined],
  [['a.js', 0, -1], undefined, undefined],
  [['a.js', '3; rm', {}], undefined, undefined],
];
for (const [data, line, column] of asked) {
  test(`placeOf() ${JSON.stringify(data)}`, () => {
    assert.equal(placeOf(data), { file: 'a.js', line, column });
  });
}

for (const data of [null, 'a.js', {}, [], [''], [1], [['a.js']], { 0: 'a.js' }]) {
  test(`placeOf() refuses ${JSON.stringify(data)}`, () => assert.throws(() => placeOf(data), RangeError));
}

const failure: Failure = {
  message: 'Broken in lib/b.css',
  file: 'src/odd name (1).js',
  stack: 'at build (build.mjs:3:7)',
  output: '\x1b[96msrc/c.ts\x1b[0m:\x1b[93m3\x1b[0m: File "tools/d.py", line 12',
};
for (const [name, expected] of [
  ['src/odd name (1).js', true],
  ['lib/b.css', true],
  ['build.mjs', true],
  ['src/c.ts', true],
  ['tools/d.py', true],
  ['c.ts', false],
  ['src/c.t', false],
  ['d.py', false],
  ['/etc/passwd', false],
] as const) {
  test(`names() of ${JSON.stringify(name)} is ${expected}`, () => {
    assert.is(names(failure, name), expected);
  });
}

/** An editor that writes what it is called with into a file. */
function editor(home: Folder): { called(): Promise<string[]>; readonly seen: string } {
  const seen = home.file('called');
  const script = home.write(
    'editor',
    `#!/bin/sh\nprintf '%s\\n' "$@" > '${seen}.part' && mv '${seen}.part' '${seen}'\n`,
  );
  chmodSync(script, 0o755);
  process.env.LAUNCH_EDITOR = script;
  return {
    seen,
    called: async () => {
      await until('the editor to be called', () => existsSync(seen));
      return readFileSync(seen, 'utf8').trimEnd().split('\n');
    },
  };
}

test('openInEditor() hands file, line and column to the editor, as they are', async () => {
  using home = folder({ "site/$(touch x) 'a'.js": '' });
  const { called } = editor(home);
  const place = { file: "$(touch x) 'a'.js", line: 3, column: 7 };
  assert.is(await openInEditor(place, [home.file('nowhere'), home.file('site')]), true);
  assert.equal(await called(), [home.file("site/$(touch x) 'a'.js"), '3', '7']);
});

test('openInEditor() opens files of the folders, and nothing else', async () => {
  using home = folder({ 'site/in/a.js': '', 'outside.js': '', 'lib/b.js': '' });
  const { seen, called } = editor(home);
  symlinkSync('../outside.js', home.file('site/link.js'));
  mkdirSync(home.file('site/folder.js'));
  const folders = [home.file('site'), home.file('lib')];
  for (const file of [
    '../outside.js',
    'link.js',
    'folder.js',
    'gone.js',
    home.file('outside.js'),
    home.file('site/in/a.js'),
    '\\\\host\\share\\a.js',
    '//host/share/a.js',
    'C:\\a.js',
    'in/a.js\0',
    '.',
  ]) {
    const place = { file, line: 1, column: 1 };
    const error = await openInEditor(place, folders).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    assert.instance(error, RangeError, file);
  }
  assert.not.ok(existsSync(seen));
  const place = { file: '../lib/b.js', line: undefined, column: 2 };
  await openInEditor(place, folders);
  assert.equal(await called(), [home.file('lib/b.js')], 'in another of the folders');
});

interface Post {
  readonly headers?: Record<string, string>;
  readonly body?: unknown;
}

function post({ url }: LiveServer, { headers, body = ['src/a.js', 3, 7] }: Post = {}) {
  const { origin } = new URL(url);
  const answer = new Promise<{ status: number | undefined; text: string }>((resolve, reject) => {
    const req = request(`${url}__events/open`, {
      method: 'POST',
      agent: false,
      headers: {
        'content-type': 'application/json',
        ...(headers ?? { origin, 'sec-fetch-site': 'same-origin' }),
      },
    });
    req.on('response', (res) => {
      let text = '';
      res.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      res.on('end', () => resolve({ status: res.statusCode, text }));
    });
    req.on('error', reject);
    req.end(JSON.stringify(body));
  });
  return within('the answer', answer);
}

test('POST /__events/open of our own page opens what the failure names, while it stands', async () => {
  using home = folder({ 'site/src/a.js': '', 'site/src/b.js': '' });
  const { called, seen } = editor(home);
  await using server = await start({ root: home.file('site'), port: 0 });
  const refused = { status: 400, text: 'Cannot open "src/a.js": no build has failed there\n' };
  assert.equal(await post(server), refused);
  server.error({ message: 'Broken', file: 'src/b.js' });
  assert.equal(await post(server), refused);
  server.error({ message: 'Broken', file: 'src/a.js', line: 3 });
  server.reload();
  assert.equal(await post(server), refused);
  assert.not.ok(existsSync(seen));
  server.error({ message: 'Broken', file: 'src/a.js', line: 3 });
  assert.equal(await post(server), { status: 200, text: '' });
  assert.equal(await called(), [home.file('site/src/a.js'), '3', '7']);
  assert.is((await post(server, { body: { file: 'src/a.js' } })).status, 400);
});

test('POST /__events/open of anybody else opens nothing', async () => {
  using home = folder({ 'site/src/a.js': '' });
  const { seen } = editor(home);
  await using server = await start({
    root: home.file('site'),
    port: 0,
    cors: true,
    allowedHosts: ['mybox.local'],
  });
  server.error({ message: 'Broken', file: 'src/a.js' });
  const { origin } = new URL(server.url);
  const own = { origin, 'sec-fetch-site': 'same-origin' };
  const strangers: Record<string, string>[] = [
    {},
    { 'sec-fetch-site': 'same-origin' },
    { origin: 'null' },
    { origin: 'http://evil.example', 'sec-fetch-site': 'cross-site' },
    { origin: 'http://localhost:1', 'sec-fetch-site': 'same-site' },
    { ...own, origin: origin.replace('localhost', '127.0.0.1') },
    { ...own, 'sec-fetch-site': 'cross-site' },
    { ...own, 'sec-fetch-site': 'none' },
    { ...own, 'x-forwarded-for': '203.0.113.7' },
    { ...own, host: 'mybox.local', origin: 'http://mybox.local' },
    { ...own, host: 'evil.example', origin: 'http://evil.example' },
  ];
  for (const headers of strangers) {
    assert.is((await post(server, { headers })).status, 403, JSON.stringify(headers));
  }
  assert.is((await post(server, { headers: { ...own, 'content-type': 'text/plain' } })).status, 415);
  assert.not.ok(existsSync(seen));
});

test('POST /__events/open without an editor says how to name one, to the page and the terminal', async () => {
  using home = folder({ 'site/src/a.js': '' });
  process.env.LAUNCH_EDITOR = home.file('no-such-editor');
  await using server = await start({ root: home.file('site'), port: 0 });
  const notices: string[] = [];
  server.on('notice', (line) => notices.push(line));
  server.error({ message: 'Broken', file: 'src/a.js' });
  const text = 'Cannot open an editor: set LAUNCH_EDITOR to the command of yours, and start the server again';
  assert.equal(await post(server), { status: 500, text });
  assert.equal(notices, [text]);
});

test.run();
