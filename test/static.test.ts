import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  readdirSync,
  readlinkSync,
  renameSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { Agent, createServer, type IncomingMessage, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type FilesOptions, type ServedDocument, serveFiles } from '../src/static.ts';
import { folder, get, navigation, raw, until, within } from './harness.ts';

interface Site extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly notices: string[];
}

async function serve(root: string, options: FilesOptions = {}): Promise<Site> {
  const notices: string[] = [];
  const handler = serveFiles(root, { onNotice: (line) => notices.push(line), ...options });
  const server = createServer((req, res) => void handler(req, res));
  server.keepAliveTimeout = 60_000; // a connection that ends early was ended, not timed out
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    notices,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const LARGE = 9 * 2 ** 20;
const large = (letter: string) => Buffer.alloc(LARGE, letter);

// Paths, as they stand on the wire.

const inside = {
  'site/index.html': '<p>home',
  'site/a.txt': 'a',
  'site/.env': 'KEY',
  'site/.git/config': 'KEY',
};
const outside = { 'secret.txt': 'KEY', 'site-secret/x.txt': 'KEY', 'package.json': 'KEY' };

const attacks = [
  '/../secret.txt',
  '/%2e%2e/secret.txt',
  '/%2e%2e%2fsecret.txt',
  '/..%2fsecret.txt',
  '/.%2e/secret.txt',
  '/%252e%252e/secret.txt',
  '/%252e%252e%252fsecret.txt',
  '/..\\secret.txt',
  '/..%5csecret.txt',
  '/a/..%5c..%5csecret.txt',
  '/a.txt/../../secret.txt',
  '/a/../../secret.txt',
  '/./../secret.txt',
  '/../site-secret/x.txt',
  '/%2e%2e/site-secret/x.txt',
  '/..%00/secret.txt',
  '/a.txt%00.html',
  '/%c0%ae%c0%ae/secret.txt',
  '/%c0%ae%c0%ae%c0%afsecret.txt',
  '/%e0%80%ae%e0%80%ae/secret.txt',
  '/%uff0e%uff0e/secret.txt',
  '//secret.txt',
  '//127.0.0.1/secret.txt',
  '///etc/passwd',
  '/%2fetc/passwd',
  'http://127.0.0.1/../secret.txt',
  'file:///etc/passwd',
  '/@fs/etc/passwd',
  '/%',
  '/%zz',
  '/%e0%a4',
  '/.env',
  '/%2eenv',
  '/.%65nv',
  '/.env?x',
  '/.env#x',
  '/.env/',
  '/a/../.env',
  '/.git/config',
  '/.git/',
  '/.git',
  '/%2egit%2fconfig',
  '/index.html/../../secret.txt',
  '/?/../../secret.txt',
  '/a.txt/../.env',
  '/package.json',
  '/node_modules/sirv/package.json',
];

test('no spelling of a path leads out of the root or to a hidden file', async () => {
  using root = folder({ ...inside, ...outside });
  await using site = await serve(root.file('site'));
  for (const attack of attacks) {
    for (const extra of [
      '',
      'Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nAccept: text/html\r\n',
    ]) {
      using client = raw(site.port, `GET ${attack} HTTP/1.1\r\nHost: x\r\n${extra}Connection: close\r\n\r\n`);
      const answer = await client.end();
      assert.not.match(answer, /KEY|root:/, attack);
      if (attack.startsWith('/?')) assert.match(answer, /^HTTP\/1\.1 200 .*<p>home/s);
      else assert.match(answer, /^HTTP\/1\.1 40[04] /, attack);
    }
  }
  assert.is((await get(site.url, '/a.txt')).text, 'a');
});

test('hidden files are 404 for every method, with single, and with a range', async () => {
  using root = folder({ 'index.html': 'home', '.env': 'KEY' });
  await using site = await serve(root.path, { single: true });
  const asked = [{}, { headers: navigation }, { headers: { range: 'bytes=0-1' } }, { method: 'HEAD' }];
  for (const options of asked) {
    const answer = await get(site.url, '/.env', options);
    assert.is(answer.status, 404);
    assert.not.match(answer.text, /KEY|home/);
  }
  assert.is(site.notices.length, 1);
});

test('other methods are 405 and say which are allowed', async () => {
  using root = folder({ 'a.txt': 'a' });
  await using site = await serve(root.path);
  for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND']) {
    const { status, headers } = await get(site.url, '/a.txt', { method });
    assert.equal([status, headers.allow], [405, 'GET, HEAD'], method);
  }
});

// What is sent.

test('a file has its type, length, validators and cache rule', async () => {
  using root = folder({ 'a.css': 'a{}' });
  utimesSync(root.file('a.css'), 1_700_000_000, 1_700_000_000.9);
  await using site = await serve(root.path);
  const { status, headers, text } = await get(site.url, '/a.css');
  assert.is(status, 200);
  assert.is(text, 'a{}');
  const { date, connection, 'keep-alive': _, ...own } = headers;
  assert.equal(own, {
    'x-content-type-options': 'nosniff',
    'content-type': 'text/css; charset=utf-8',
    'cache-control': 'no-cache',
    etag: `"${createHash('sha1').update('a{}').digest('base64url')}"`,
    'last-modified': 'Tue, 14 Nov 2023 22:13:20 GMT',
    'accept-ranges': 'bytes',
    'content-length': '3',
  });
});

const latin1 = (text: string) => Buffer.from(text, 'latin1');
const types: [name: string, content: string | Uint8Array, type: string][] = [
  ['a.html', '<p>é', 'text/html; charset=utf-8'],
  ['plain.html', latin1('<p>\xe9'), 'text/html'],
  ['latin1.html', latin1('<meta charset="iso-8859-1"><p>\xe9'), 'text/html'],
  ['ascii-latin1.html', '<meta charset=windows-1252><p>e', 'text/html'],
  ['http-equiv.html', '<meta http-equiv="content-type" content="text/html; charset=koi8-r">', 'text/html'],
  ['comment.html', '<!-- <meta charset="koi8-r"> --><p>é', 'text/html; charset=utf-8'],
  ['utf8.html', '<meta charset="UTF-8"><p>é', 'text/html; charset=utf-8'],
  ['bom.html', '\ufeff<meta charset="koi8-r"><p>é', 'text/html; charset=utf-8'],
  ['utf16.html', Buffer.from('\ufeff<p>é', 'utf16le'), 'text/html'],
  ['latin1.css', '@charset "iso-8859-1";', 'text/css'],
  ['a.js', 'é', 'text/javascript; charset=utf-8'],
  ['a.mjs', '', 'text/javascript; charset=utf-8'],
  ['a.json', '{}', 'application/json; charset=utf-8'],
  ['a.svg', '<svg/>', 'image/svg+xml'],
  ['a.xhtml', '<html/>', 'application/xhtml+xml'],
  ['a.xml', '<a/>', 'text/xml'],
  ['a.txt', '', 'text/plain; charset=utf-8'],
  ['a.wasm', '', 'application/wasm'],
  ['a.png', '', 'image/png'],
  ['a.ico', '', 'image/x-icon'],
  ['a.js.gz', '', 'application/gzip'],
  ['a.js.br', '', 'application/octet-stream'],
  ['a.unknown', '', 'application/octet-stream'],
  ['LICENSE', '', 'application/octet-stream'],
];

test('the type says utf-8 where that is true, and nothing where the file says something else', async () => {
  using root = folder(Object.fromEntries(types.map(([name, content]) => [name, content])));
  await using site = await serve(root.path);
  for (const [name, content, type] of types) {
    const { headers, body } = await get(site.url, `/${name}`);
    assert.is(headers['content-type'], type, name);
    assert.is(headers['content-encoding'], undefined);
    assert.ok(body.equals(Buffer.from(content)), name);
  }
});

test('names with every odd character are found', async () => {
  const names = [
    'a b',
    '100%',
    'a#b',
    'a?b',
    'a+b',
    'a&b=c',
    "a'b",
    'é',
    'e\u0301',
    '日本',
    '%41',
    'a;b',
    '~a',
    '@',
    '😀',
  ];
  using root = folder(Object.fromEntries(names.map((name) => [`${name}.txt`, name])));
  await using site = await serve(root.path);
  for (const name of names) assert.is((await get(site.url, `/${encodeURIComponent(name)}.txt`)).text, name);
});

test('HEAD has the headers of GET and no body', async () => {
  using root = folder({ 'a.txt': 'abc', 'large.bin': large('x') });
  await using site = await serve(root.path);
  for (const path of ['/a.txt', '/large.bin', '/missing', '/']) {
    const [head, got] = [await get(site.url, path, { method: 'HEAD' }), await get(site.url, path)];
    assert.is(head.status, got.status);
    assert.is(head.body.length, 0);
    const { date: a, ...headers } = head.headers;
    const { date: b, ...others } = got.headers;
    assert.equal(headers, others);
    assert.is(headers['content-length'], String(got.body.length));
  }
});

test('a part of a small and of a large file is that part', async () => {
  const content = Buffer.from(Uint8Array.from({ length: LARGE }, (_, i) => (i * 7 + (i >> 8)) % 256));
  using root = folder({ 'small.bin': content.subarray(0, 1000), 'large.bin': content });
  await using site = await serve(root.path);
  for (const [path, size] of [
    ['/small.bin', 1000],
    ['/large.bin', LARGE],
  ] as const) {
    const parts: [string, number, number][] = [
      ['0-0', 0, 0],
      ['0-1', 0, 1],
      ['5-700', 5, 700],
      ['-3', size - 3, size - 1],
      [`${size - 1}-`, size - 1, size - 1],
      [`1-${size * 2}`, 1, size - 1],
    ];
    for (const [range, first, last] of parts) {
      const { status, headers, body } = await get(site.url, path, { headers: { range: `bytes=${range}` } });
      assert.is(status, 206);
      assert.is(headers['content-range'], `bytes ${first}-${last}/${size}`);
      assert.ok(body.equals(content.subarray(first, last + 1)), `${path} ${range}`);
    }
    for (const range of ['bytes=5-2', 'bytes=0-1,9-10', 'x', `bytes=${'0-1,5-6,'.repeat(800)}`]) {
      const { status, body } = await get(site.url, path, { headers: { range } });
      assert.is(status, 200);
      assert.is(body.length, size);
    }
    const { status, headers, body } = await get(site.url, path, { headers: { range: `bytes=${size}-` } });
    assert.equal([status, headers['content-range'], body.length], [416, `bytes */${size}`, 0]);
  }
});

test('an unchanged file is 304, a changed one never', async () => {
  using root = folder({ 'a.js': '1', 'large.bin': large('a') });
  await using site = await serve(root.path);
  for (const [path, next] of [
    ['/a.js', '2'],
    ['/large.bin', large('b')],
  ] as const) {
    const { headers } = await get(site.url, path);
    const known = {
      'if-none-match': String(headers.etag),
      'if-modified-since': String(headers['last-modified']),
    };
    const unchanged = await get(site.url, path, { headers: known });
    assert.is(unchanged.status, 304);
    assert.is(unchanged.body.length, 0);
    assert.is(unchanged.headers.etag, headers.etag);
    assert.is(unchanged.headers['content-length'], undefined);
    root.write(path, next);
    assert.is((await get(site.url, path, { headers: known })).status, 200);
  }
});

test('a file changed in the second of its Last-Modified, or to an older one, is not 304 by date', async () => {
  using root = folder({ 'a.js': '1' });
  utimesSync(root.file('a.js'), 1_700_000_000, 1_700_000_000);
  await using site = await serve(root.path);
  const { headers } = await get(site.url, '/a.js');
  const known = { 'if-modified-since': String(headers['last-modified']) };
  assert.is((await get(site.url, '/a.js', { headers: known })).status, 304);
  root.write('a.js', '2');
  utimesSync(root.file('a.js'), 1_600_000_000, 1_600_000_000);
  assert.is((await get(site.url, '/a.js', { headers: known })).text, '2');
});

test('a save of the same size, with the date kept, is seen', async () => {
  using root = folder();
  await using site = await serve(root.path);
  for (let i = 100; i < 300; i++) {
    root.write('a.js', String(i));
    utimesSync(root.file('a.js'), 1_700_000_000, 1_700_000_000);
    assert.is((await get(site.url, '/a.js')).text, String(i));
  }
});

test('a stream that is continued with If-Range is whole when the file has changed', async () => {
  using root = folder({ 'a.bin': 'aaaa' });
  await using site = await serve(root.path);
  const { headers } = await get(site.url, '/a.bin');
  const rest = { range: 'bytes=2-', 'if-range': String(headers.etag) };
  assert.is((await get(site.url, '/a.bin', { headers: rest })).text, 'aa');
  root.write('a.bin', 'bbbb');
  assert.is((await get(site.url, '/a.bin', { headers: rest })).text, 'bbbb');
});

test('fonts are not stored and have no validators', async () => {
  using root = folder({ 'a.woff2': 'font' });
  await using site = await serve(root.path);
  const { headers } = await get(site.url, '/a.woff2', { headers: { 'if-none-match': '*' } });
  assert.is(headers['cache-control'], 'no-store');
  assert.is(headers['content-type'], 'font/woff2');
  assert.equal([headers.etag, headers['last-modified']], [undefined, undefined]);
});

test('a stylesheet asked for under a version is kept for ever, and so are its imports', async () => {
  using root = folder({ 'a.css': '@import "b.css"; a{content:"é"}', 'a.js': '1' });
  await using site = await serve(root.path);
  const plain = await get(site.url, '/a.css');
  const versioned = await get(site.url, '/a.css?live-sse=x-1');
  assert.is(versioned.text, '@import "b.css?live-sse=x-1"; a{content:"é"}');
  assert.match(versioned.headers['cache-control'] ?? '', 'immutable');
  assert.is.not(versioned.headers.etag, plain.headers.etag);
  assert.is((await get(site.url, '/a.css?live-sse=<x>')).text, plain.text);
  assert.is((await get(site.url, '/a.js?live-sse=x-1')).headers['cache-control'], 'no-cache');
});

test('headers that were set before are kept', async () => {
  using root = folder({ 'a.txt': 'a' });
  const handler = serveFiles(root.path);
  const server = createServer((req, res) => {
    res.setHeader('Cache-Control', 'max-age=5').setHeader('Content-Type', 'text/x-mine');
    void handler(req, res);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { headers } = await get(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, '/a.txt');
  server.close();
  assert.equal([headers['cache-control'], headers['content-type']], ['max-age=5', 'text/x-mine']);
});

// Documents, and pages of ours.

/** Marks documents, and remembers what it was given. */
function marking() {
  const seen: ServedDocument[] = [];
  const marked = new WeakMap<Buffer, Buffer>();
  const document = (doc: ServedDocument) => {
    seen.push(doc);
    const body = marked.get(doc.body) ?? Buffer.concat([doc.body, Buffer.from('<!--é-->')]);
    marked.set(doc.body, body);
    return body;
  };
  return { seen, document };
}

test('documents are passed through `document`, and lengths and validators are of what it returns', async () => {
  using root = folder({ 'docs/index.html': '<p>', 'a.svg': '<svg/>', 'a.css': 'a{}' });
  const { seen, document } = marking();
  await using site = await serve(root.path, { document });
  const plain = createHash('sha1').update('<p>').digest('base64url');
  const { headers, text } = await get(site.url, '/docs/');
  assert.is(text, '<p><!--é-->');
  assert.is(headers['content-length'], '12');
  assert.not.match(headers.etag ?? '', plain);
  assert.is((await get(site.url, '/a.svg')).text, '<svg/><!--é-->');
  assert.is((await get(site.url, '/a.css')).text, 'a{}');
  assert.is(
    (await get(site.url, '/docs/', { headers: { 'if-none-match': headers.etag ?? '' } })).status,
    304,
  );
  const known = seen.map(({ path, type }) => [path, type]);
  assert.equal(known.slice(0, 2), [
    ['/docs/index.html', 'text/html; charset=utf-8'],
    ['/a.svg', 'image/svg+xml'],
  ]);
});

test('an unchanged document is the same Buffer each time, also after its date was touched', async () => {
  using root = folder({ 'index.html': '<p>' });
  const { seen, document } = marking();
  await using site = await serve(root.path, { document });
  for (let i = 0; i < 5; i++) {
    utimesSync(root.file('index.html'), i, i);
    await get(site.url, '/');
  }
  assert.is(new Set(seen.map(({ body }) => body)).size, 1);
});

test('the date of a page another server may have sent proves nothing; of one that was sent here it does', async () => {
  using root = folder({ 'index.html': '<p>' });
  utimesSync(root.file('index.html'), 1_700_000_000, 1_700_000_000);
  await using site = await serve(root.path, { document: marking().document });
  const headers = { 'if-modified-since': 'Tue, 14 Nov 2023 22:13:20 GMT' };
  assert.is((await get(site.url, '/', { headers })).status, 200);
  assert.is((await get(site.url, '/', { headers })).status, 304);
});

test('a large document is passed through whole', async () => {
  using root = folder({ 'a.html': `<p>${'x'.repeat(LARGE)}` });
  await using site = await serve(root.path, { document: marking().document });
  const { body } = await get(site.url, '/a.html');
  assert.is(body.length, LARGE + 3 + 9);
});

test("the site's 404 page is sent with status 404, without validators, whatever the conditions", async () => {
  using root = folder({ '404.html': 'gone' });
  const { seen, document } = marking();
  await using site = await serve(root.path, { document });
  const conditions: Record<string, string>[] = [{}, { 'if-none-match': '*' }, { range: 'bytes=0-1' }];
  for (const headers of conditions) {
    const answer = await get(site.url, '/x/missing.html', { headers });
    assert.equal([answer.status, answer.text], [404, 'gone<!--é-->']);
    assert.is(answer.headers.etag, undefined);
  }
  assert.is(seen[0]?.path, '/404.html');
});

test('our 404 page suggests near names, is alive and shows nothing raw', async () => {
  using root = folder({ 'about.html': '', '.abuot.html': '' });
  const { seen, document } = marking();
  await using site = await serve(root.path, { document });
  const { status, headers, text } = await get(site.url, '/abuot.html', { headers: navigation });
  assert.is(status, 404);
  assert.match(text, 'href="/about.html"');
  assert.not.match(text, 'href="/.abuot');
  assert.match(text, '<!--é-->');
  assert.match(String(headers['content-security-policy']), "script-src 'self'");
  assert.is(seen[0]?.path, undefined);
  const part = await get(site.url, '/missing.css', { headers: { 'sec-fetch-dest': 'style' } });
  assert.equal(
    [part.status, part.text, part.headers['content-type']],
    [404, 'Not Found\n', 'text/plain; charset=utf-8'],
  );
  const hostile = await get(site.url, "/%3Cimg%20src=x%20onerror=alert(1)%3E%22'?<script>");
  assert.not.match(hostile.text, /<img|<script/);
});

test('the wrong letter case is found out and said once', async () => {
  using root = folder({ 'img/Logo.PNG': 'x' });
  await using site = await serve(root.path);
  for (let i = 0; i < 2; i++) {
    const { status, text } = await get(site.url, '/img/logo.png');
    assert.is(status, 404);
    assert.match(text, 'href="/img/Logo.PNG"');
  }
  assert.is(site.notices.length, 1);
  assert.match(site.notices[0] ?? '', 'Logo.PNG');
});

test('a folder is redirected to its slash, on this host, and listed or given its index', async () => {
  using root = folder({ 'docs/a.txt': 'a', 'docs/b/x.txt': '', 'evil.example/index.html': '' });
  await using site = await serve(root.path);
  const redirects: [string, string][] = [
    ['/docs', '/docs/'],
    ['/docs?a=1', '/docs/?a=1'],
    ['/evil.example', '/evil.example/'],
    ['/docs?%0d%0aX-Bad:1', '/docs/?%0d%0aX-Bad:1'],
  ];
  for (const [path, location] of redirects) {
    const { status, headers } = await get(site.url, path);
    assert.equal([status, headers.location], [301, location]);
  }
  for (const path of ['//evil.example', '/\\evil.example', '/%5cevil.example', '//evil.example/%2e%2e']) {
    const { status, headers } = await get(site.url, path);
    assert.ok(status >= 400);
    assert.is(headers.location, undefined);
  }
  const { text, headers } = await get(site.url, '/docs/');
  assert.equal(
    [...text.matchAll(/href="([^"]+)"/g)].map(([, href]) => href),
    ['../', './b/', './a.txt'],
  );
  assert.match(String(headers['content-security-policy']), "default-src 'none'");
});

test('a root without index says how to start', async () => {
  using root = folder();
  await using site = await serve(root.path);
  const { status, text } = await get(site.url, '/');
  assert.is(status, 200);
  assert.match(text, 'index.html');
});

test('single answers navigations that lead to no file, never for an asset, a fetch or the event stream', async () => {
  using root = folder({ 'index.html': 'home', 'app.html': 'app', 'a.txt': 'a' });
  await using site = await serve(root.path, { single: true });
  await using named = await serve(root.path, { single: '/app.html' });
  const fetched = { ...navigation, accept: '*/*', 'sec-fetch-dest': 'empty', 'sec-fetch-mode': 'cors' };
  const image = { 'sec-fetch-dest': 'image' };
  const cases: [path: string, headers: Record<string, string>, status: number][] = [
    ['/users/7', navigation, 200],
    ['/users/j.doe', navigation, 200],
    ['/users/7', {}, 200],
    ['/users/7/', { accept: 'text/html' }, 200],
    ['/users/7', { accept: 'application/json' }, 404],
    ['/users/7', fetched, 404],
    ['/missing', image, 404],
    ['/missing.png', navigation, 404],
    ['/missing.js', {}, 404],
    ['/__events', navigation, 404],
    ['/__events/client.js', {}, 404],
    ['/__eventsx', {}, 404],
  ];
  for (const [path, headers, status] of cases) {
    const answer = await get(site.url, path, { headers });
    assert.is(answer.status, status, `${path} ${JSON.stringify(headers)}`);
    if (status === 200) assert.is(answer.text, 'home');
  }
  assert.is((await get(named.url, '/users/7')).text, 'app');
  assert.is((await get(named.url, '/a.txt')).text, 'a');
});

test('mounts are served at their prefix', async () => {
  using parent = folder({ 'site/index.html': 'home', 'dist/app.js': 'app', 'dist/.env': 'KEY' });
  await using site = await serve(parent.file('site'), { mounts: { '/assets': parent.file('dist') } });
  assert.is((await get(site.url, '/assets/app.js')).text, 'app');
  assert.is((await get(site.url, '/assets/.env')).status, 404);
  assert.is((await get(site.url, '/assets/../site/index.html')).status, 400);
});

test('onServe hears of each file that was answered, and of nothing else', async () => {
  using root = folder({ 'a.js': 'abc', 'docs/index.html': '', '404.html': '' });
  const files: string[] = [];
  await using site = await serve(root.path, { onServe: (file) => files.push(file.slice(root.path.length)) });
  const { headers } = await get(site.url, '/a.js');
  await get(site.url, '/a.js', { headers: { range: 'bytes=0-0' } });
  await get(site.url, '/a.js', { headers: { 'if-none-match': String(headers.etag) } });
  await get(site.url, '/docs/');
  for (const path of ['/missing', '/docs', '/../a.js']) await get(site.url, path);
  await get(site.url, '/a.js', { headers: { range: 'bytes=9-' } });
  assert.equal(files, ['/a.js', '/a.js', '/a.js', '/docs/index.html']);
});

test('a save under way is waited for, of a file that is there and of one that is not', async () => {
  using root = folder({ 'a.txt': 'torn' });
  let saves = 0;
  const settled = async (file: string) => {
    if (file === root.file('a.txt') && saves++ === 0) root.write('a.txt', 'whole');
    if (file === root.file('b.html') && !existsSync(file)) root.write('b.html', 'new');
    return true;
  };
  await using site = await serve(root.path, { settled });
  assert.is((await get(site.url, '/a.txt')).text, 'whole');
  assert.is((await get(site.url, '/b')).text, 'new');
});

test('a save that begins while the file is read is waited for', async () => {
  using root = folder({ 'a.txt': 'old', 'b.txt': '' });
  let asked = 0;
  const settled = async (file: string) => {
    // Asked again when the bytes are read: they were those of a file that was just emptied.
    if (++asked === 2) writeFileSync(file, 'whole');
    return true;
  };
  await using site = await serve(root.path, { settled });
  for (const name of ['a.txt', 'b.txt']) {
    asked = 0;
    const { text, headers } = await get(site.url, `/${name}`);
    assert.is(text, 'whole');
    assert.is(headers['content-length'], '5');
  }
});

test('a file that is remembered is asked about once, and the next one its path leads to as any other', async () => {
  using root = folder({ 'about.html': 'page' });
  const asked: string[] = [];
  const settled = async (file: string) => {
    asked.push(file);
    return true;
  };
  await using site = await serve(root.path, { settled });
  const ask = async () => {
    asked.length = 0;
    const { text } = await get(site.url, '/about');
    return [text, ...asked.map((file) => basename(file))];
  };
  await until('a version that is remembered', async () => (await ask()).length === 2);
  assert.equal(await ask(), ['page', 'about.html']);
  root.write('about', 'text');
  assert.equal(await ask(), ['text', 'about.html', 'about', 'about']);
  unlinkSync(root.file('about'));
  unlinkSync(root.file('about.html'));
  root.write('about/index.html', 'folder');
  assert.is((await get(site.url, '/about')).status, 301);
});

test('a save that was waited for in vain is waited for no more', async () => {
  using root = folder({ 'a.txt': 'old' });
  let asked = 0;
  const settled = async (file: string) => {
    writeFileSync(file, `${++asked}`);
    return false;
  };
  await using site = await serve(root.path, { settled });
  assert.is((await get(site.url, '/a.txt')).text, '1');
  assert.is(asked, 1);
});

// What must not end it.

test('special files are 404 at once', async () => {
  using root = folder({ 'a.txt': 'a' });
  execFileSync('mkfifo', [root.file('fifo'), root.file('fifo.html')]);
  const socket = createServer();
  await new Promise<void>((resolve) => socket.listen(root.file('socket'), resolve));
  symlinkSync('/dev/zero', root.file('zero'));
  await using site = await serve(root.path, { followSymlinks: true });
  const paths = ['/fifo', '/fifo.html', '/socket', '/zero'].flatMap(
    (path) => Array(5).fill(path) as string[],
  );
  const answers = await Promise.all(paths.map((path) => get(site.url, path)));
  socket.close();
  assert.equal(new Set(answers.map(({ status }) => status)), new Set([404]));
  assert.is((await get(site.url, '/a.txt')).text, 'a');
});

test('a file that becomes a FIFO between the check and the opening is not waited for', async () => {
  using root = folder({ 'a.txt': 'a', 'large.bin': large('x') });
  execFileSync('mkfifo', [root.file('fifo')]);
  // The file is looked at within a few microtasks from here, and opened in the next tick, after all of them.
  const settled = async (file: string) => {
    if (file === root.file('large.bin'))
      void microtasks(100).then(() => renameIfThere(root.file('fifo'), file));
    return true;
  };
  await using site = await serve(root.path, { settled });
  const answers = await Promise.all(Array.from({ length: 6 }, () => get(site.url, '/large.bin')));
  assert.not(existsSync(root.file('fifo')));
  assert.equal(
    answers.map(({ status }) => status),
    Array(6).fill(404),
  );
  assert.is((await get(site.url, '/a.txt')).text, 'a');
});

async function microtasks(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await undefined;
}

function renameIfThere(from: string, to: string): void {
  if (existsSync(from)) renameSync(from, to);
}

test('a file that becomes a link out of the root between the check and the opening is not read', async () => {
  using parent = folder({ 'root/a.txt': 'aaa', 'KEY.txt': 'KEY' });
  const file = parent.file('root/a.txt');
  symlinkSync('../KEY.txt', parent.file('root/link'));
  const settled = async () => {
    void microtasks(100).then(() => renameIfThere(parent.file('root/link'), file));
    return true;
  };
  await using site = await serve(parent.file('root'), { settled });
  const { status, text } = await get(site.url, '/a.txt');
  assert.not(existsSync(parent.file('root/link')));
  assert.is(status, 404);
  assert.not.match(text, 'KEY');
});

test('a document function that throws is a constant 500', async () => {
  using root = folder({ 'index.html': '', 'a.txt': 'a' });
  const document = () => {
    throw new Error(`at ${root.path}`);
  };
  await using site = await serve(root.path, { document });
  const { status, text, headers } = await get(site.url, '/');
  assert.is(status, 500);
  assert.not.match(text, root.path);
  assert.is(headers.etag, undefined);
  assert.match(site.notices[0] ?? '', root.path);
  assert.is((await get(site.url, '/a.txt')).text, 'a');
});

test('a large file that is cut while it is sent ends its connection, and no other', async () => {
  using root = folder({ 'large.bin': Buffer.alloc(64 * 2 ** 20, 'x'), 'a.txt': 'a' });
  await using site = await serve(root.path);
  using slow = raw(site.port);
  slow.socket.pause();
  slow.socket.write('GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n');
  await until('the head', () => slow.socket.readableLength > 0 || slow.socket.bytesRead > 0);
  truncateSync(root.file('large.bin'), 100);
  slow.socket.resume();
  await slow.end();
  assert.ok(slow.socket.bytesRead < 64 * 2 ** 20);
  assert.is((await get(site.url, '/a.txt')).text, 'a');
});

test('a large file that grows, goes away or is replaced while it is sent is sent as it was', async () => {
  const size = 32 * 2 ** 20;
  using root = folder();
  await using site = await serve(root.path);
  const harms: ((file: string) => void)[] = [
    (file) => writeFileSync(file, 'more', { flag: 'a' }),
    (file) => unlinkSync(file),
    (file) => {
      writeFileSync(`${file}.new`, Buffer.alloc(size, 'b'));
      renameSync(`${file}.new`, file);
    },
  ];
  for (const harm of harms) {
    const file = root.write('large.bin', Buffer.alloc(size, 'a'));
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const body = await within(
      'the whole file',
      sentWhile(site, agent, () => harm(file)),
    );
    assert.is(body.length, size);
    assert.ok(body.equals(Buffer.alloc(size, 'a')));
    const next = await within(
      'an answer on the same connection',
      sentWhile(site, agent, () => {}, '/missing'),
    );
    assert.match(next.toString(), 'Nothing here');
    agent.destroy();
  }
});

/** A body of which the first bytes were received before something happened to its file. */
function sentWhile(site: Site, agent: Agent, happens: () => void, path = '/large.bin'): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const req = request({ port: site.port, host: '127.0.0.1', path, agent }, (res: IncomingMessage) => {
      const chunks: Buffer[] = [];
      res.once('data', happens);
      res.on('data', (chunk: Buffer) => chunks.push(chunk));
      res.on('error', reject);
      res.on('end', () => resolve(Buffer.concat(chunks)));
    });
    req.on('error', reject);
    req.end();
  });
}

test('a thousand saves of every kind during requests: no crash, no hang, never two versions in one answer', async () => {
  const size = 300_000;
  using root = folder({ 'a.bin': Buffer.alloc(size, 0) });
  const file = root.file('a.bin');
  let i = 0;
  const saves: (() => void)[] = [
    () => writeFileSync(file, Buffer.alloc(size, i)),
    () => writeFileSync(file, Buffer.alloc(size, i)),
    () => {
      writeFileSync(`${file}.new`, Buffer.alloc(size + i, i));
      renameSync(`${file}.new`, file);
    },
    () => unlinkSync(file),
    () => writeFileSync(file, Buffer.alloc(2 * size, i)),
    () => truncateSync(file, 10),
    () => writeFileSync(file, Buffer.alloc(90, i - 1), { flag: 'a' }),
  ];
  // Each save comes some turns of the event loop after the file was found: before, amid and after its reading.
  let save: (() => void) | undefined;
  let saved = Promise.resolve();
  const settled = async () => {
    const now = save;
    save = undefined;
    if (now) saved = turns(i % 10).then(now);
    return true;
  };
  await using site = await serve(root.path, { settled });
  const agent = new Agent({ keepAlive: true, maxSockets: 2 });
  const statuses = new Set<number>();
  const ask = async () => {
    const { status, body } = await within('an answer', answerOf(site, agent, '/a.bin'));
    statuses.add(status);
    // What is appended in the last kind of save carries on the version before: nothing else may be mixed.
    const isOne = body.equals(Buffer.alloc(body.length, body[0]));
    if (status === 200) assert.ok(isOne || body.length === 100, `two versions in one answer at save ${i}`);
  };
  for (i = 0; i < 1000; i++) {
    save = saves[i % saves.length];
    await Promise.all([ask(), ask()]);
    await saved;
  }
  agent.destroy();
  assert.equal([...statuses].sort(), [200, 404]);
});

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

function answerOf(site: Site, agent: Agent, path: string): Promise<{ status: number; body: Buffer }> {
  return new Promise((resolve, reject) => {
    const req = request({ port: site.port, host: '127.0.0.1', path, agent }, (res: IncomingMessage) => {
      const chunks: Buffer[] = [];
      res.on('data', (chunk: Buffer) => chunks.push(chunk));
      res.on('error', reject);
      res.on('end', () => resolve({ status: res.statusCode ?? 0, body: Buffer.concat(chunks) }));
    });
    req.on('error', reject);
    req.end();
  });
}

test('downloads that are given up leave nothing open', async () => {
  using root = folder({ 'large.bin': Buffer.alloc(32 * 2 ** 20, 'x') });
  await using site = await serve(root.path);
  for (let i = 0; i < 30; i++) {
    using client = raw(site.port, 'GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n');
    await client.match(/200 OK/);
  }
  const open = () => readdirSync('/proc/self/fd').filter((fd) => isOpen(fd, root.file('large.bin'))).length;
  if (process.platform === 'linux') await until('no descriptor of the file', () => open() === 0);
  assert.is((await get(site.url, '/large.bin', { method: 'HEAD' })).status, 200);
});

function isOpen(fd: string, file: string): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === file;
  } catch {
    return false; // the one that readdir() itself had
  }
}

test.run();
