import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isOwnFile, pathIn, watchUses } from '../../client/uses.ts';
import { until } from '../harness.ts';

const urls: [string, string, string][] = [
  ['a full URL', 'http://localhost:8080/css/a.css?v=1#x', '/css/a.css'],
  ['a relative URL', 'img/b.png', '/docs/img/b.png'],
  ['what is encoded and what is not are the same', '/%7Ea%20b/é.css', '/~a b/é.css'],
  ['another origin with the same path', 'http://localhost:3000/a.css', '/a.css'],
  ['no URL', 'http://[', 'http://['],
  ['a stray percent sign', '/100%', '/100%'],
];

for (const [name, url, expected] of urls) {
  test(`pathIn() of ${name}`, () => assert.is(pathIn(url, 'http://localhost:8080/docs/'), expected));
}

const pages: [string, changed: string, path: string, file: string | undefined, expected: boolean][] = [
  ['the path itself', '/a.html', '/a.html', '/a.html', true],
  ['the index of the root', '/index.html', '/', undefined, true],
  ['the index of a folder', '/docs/index.html', '/docs/', undefined, true],
  ['the index of a folder without its slash', '/docs/index.html', '/docs', undefined, true],
  ['a clean URL', '/about.html', '/about', undefined, true],
  ['a clean URL that is missing so far', '/about.html', '/about', '/404.html', true],
  ['the file the server named', '/index.html', '/some/route', '/index.html', true],
  ['another page', '/b.html', '/a.html', '/a.html', false],
  ['another index', '/docs/index.html', '/', '/index.html', false],
  ['a neighbour of a page', '/docs/x.txt', '/docs/', '/docs/index.html', false],
  ['an entry of a list', '/docs/x.txt', '/docs/', undefined, true],
  ['an entry of a folder in a list', '/docs/more/x.txt', '/docs/', undefined, false],
];

for (const [name, changed, path, file, expected] of pages) {
  test(`isOwnFile(): ${name} is${expected ? '' : ' not'}`, () => {
    assert.is(isOwnFile(changed, path, file), expected);
  });
}

test('watchUses() tells of what was on its way when it was said not to be used, and of nothing else', async () => {
  const held: Record<string, ServerResponse> = {};
  const server = createServer((req, res) => {
    if (/held/.test(req.url ?? '')) held[req.url ?? ''] = res;
    else res.end();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  // Node has the clock, the observer and the fetch of a page, and no document.
  const page = { baseURI: base, href: `${base}index.html`, querySelectorAll: () => [] };
  Object.assign(globalThis, { document: page, location: page });

  const late: string[] = [];
  const { uses } = watchUses('/index.html', '', (path) => late.push(path));
  const load = async (path: string) => {
    await fetch(base + path).then((response) => response.text());
    await until('its entry', () => performance.getEntriesByName(base + path).length > 0);
  };

  await load('early');
  const coming = ['held-asked', 'held-unasked'].map(load);
  await until('the requests', () => Object.keys(held).length === 2);
  assert.equal(['/early', '/held-asked', '/fresh', '/index.html'].map(uses), [true, false, false, true]);
  await load('fresh');
  assert.equal(late, []);
  for (const res of Object.values(held)) res.end();
  await Promise.all(coming);
  assert.equal(['/held-asked', '/held-unasked', '/fresh'].map(uses), [true, true, true]);
  assert.equal(late, ['/held-asked']);
  server.closeAllConnections();
  server.close();
});

test.run();
