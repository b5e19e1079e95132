import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { start } from '../src/index.ts';
import { refusedSheet } from '../src/sheets.ts';
import { folder, get } from './harness.ts';

const cases: [
  name: string,
  url: string,
  status: number,
  type: string | undefined,
  expected: string | undefined,
][] = [
  ['one that is well', '/a.css?live-sse=b-1', 200, 'text/css; charset=utf-8', undefined],
  ['one without a type', '/a.css?live-sse=b-1', 200, undefined, undefined],
  ['one that has not changed', '/a.css?live-sse=b-1', 304, undefined, undefined],
  ['one that is missing', '/a.css?live-sse=b-1', 404, 'text/plain', 'was answered with 404'],
  ['a page', '/a.css?v=1&live-sse=b-1', 200, 'text/html; charset=utf-8', 'came as text/html'],
  ['a page for a page', '/a.css', 200, 'text/html', undefined],
  ['an image', '/a.png?live-sse=b-1', 404, 'text/plain', undefined],
];

for (const [name, url, statusCode, type, expected] of cases) {
  test(`refusedSheet() of ${name}`, () => {
    const refused = refusedSheet({ url, headers: {} }, { statusCode, getHeader: () => type });
    const line = expected && `The stylesheet "/a.css" ${expected}: pages keep the one they have`;
    assert.equal(refused, line && { key: 'b-1 /a.css', line });
  });
}

test('a stylesheet that is empty is what it was before, for pages that show a change, and the terminal says so once', async () => {
  using site = folder({ 'a.css': 'p { top: 1px }' });
  await using server = await start({ root: site.path, port: 0, host: '127.0.0.1' });
  const notices: string[] = [];
  server.on('notice', (line) => notices.push(line));
  await get(server.url, '/a.css');
  site.write('a.css', ' \n');
  const changed = await get(server.url, '/a.css?live-sse=b-1');
  await get(server.url, '/a.css?live-sse=b-1');
  assert.is(changed.text, 'p { top: 1px }');
  assert.is((await get(server.url, '/a.css')).text, ' \n');
  assert.equal(notices, ['The stylesheet "/a.css" is empty: pages keep the one they have']);
  site.write('a.css', '/* none */');
  assert.is((await get(server.url, '/a.css?live-sse=b-2')).text, '/* none */');
});

test('?live-sse=all gives the texts of a stylesheet, the newest first', async () => {
  using site = folder({ 'a.css': '\ufeffp { top: 1px }', '.b.css': 'x', 'c.txt': 'x' });
  await using server = await start({ root: site.path, port: 0, host: '127.0.0.1' });
  await get(server.url, '/a.css');
  for (const text of ['', ...Array.from({ length: 20 }, (_, i) => `p { top: ${i}px }`)]) {
    site.write('a.css', text);
    await get(server.url, '/a.css');
  }
  const { status, headers, text } = await get(server.url, '/a.css?live-sse=all');
  assert.equal(
    [status, headers['content-type'], headers['cache-control']],
    [200, 'application/json', 'no-store'],
  );
  assert.equal(
    JSON.parse(text),
    Array.from({ length: 9 }, (_, i) => `p { top: ${19 - i}px }`),
  );
  assert.is((await get(server.url, '/a.css?live-sse=all', { method: 'HEAD' })).text, '');
  assert.is((await get(server.url, '/a.css?live-sse=all', { method: 'POST' })).status, 405);
  assert.is((await get(server.url, '/.b.css?live-sse=all')).status, 404);
  assert.is((await get(server.url, '/c.txt?live-sse=all')).text, 'x');
});

test.run();
