import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { gunzipSync, gzipSync } from 'node:zlib';
import compression from 'compression';
import connect from 'connect';
import express from 'express';
import polka from 'polka';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { injectHtml, injectResponse, isDocumentRequest, type Stamp } from '../src/inject.ts';
import { type Collector, createSources } from '../src/sources.ts';
import { type Answer, folder, get, navigation, raw, until, within } from './harness.ts';

const stamp: Stamp = { src: '/__events/client.js', id: 'boot-7', file: '/index.html' };
const TAG = '<script async src="/__events/client.js" data-id="boot-7" data-file="/index.html"></script>';
const XML_TAG = TAG.replace('async', 'xmlns="http://www.w3.org/1999/xhtml" async=""');

const html = (text: string | Buffer, type = 'text/html', document: boolean | undefined = true) =>
  injectHtml(Buffer.from(text), type, stamp, { document });

// ── injectHtml(): `|` marks the place; a document without it is left alone. ──

const documents: [name: string, marked: string][] = [
  ['a whole page', '<!doctype html><html lang="en"><head>|<title>x</title></head><body></body></html>'],
  ['an empty file', '|'],
  ['white space only', ' \n\t|'],
  ['text only', '|hello'],
  ['text behind white space', '\n  |hello'],
  ['no html tag', '<!doctype html>\n|<title>x</title><p>y'],
  ['no head tag', '<!doctype html><html>\n|<body><p>y'],
  ['no body tag', '<!doctype html><html><head>|<title>x</title></head><p>y'],
  ['a body tag only', '|<body class="a"><p>y'],
  ['a doctype only', '<!doctype html>|'],
  ['no doctype', '<html><head>|<title>x</title>'],
  ['upper case', '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01//EN">\n<HTML>\n<HEAD>|\n<TITLE>x</TITLE>'],
  ['a byte order mark', '\ufeff<!doctype html><html><head>|<title>x</title>'],
  ['a byte order mark only', '\ufeff|'],
  ['a comment before the doctype', '<!-- a --><!doctype html><html><head>|<title>x</title>'],
  ['a comment that holds a head', '<!doctype html><!-- <head> --><html><!-- <head> --><head>|<title>'],
  ['a comment that holds a head, no head', '<!doctype html><!-- <head> -->|<p>x'],
  ['comments that end at once', '<!--><!---><!----><!--a--!><head>|</head>'],
  ['a comment with hyphens', '<!-- a -- > b - -> c ---><head>|'],
  ['bogus comments', '<?xml version="1.0"?><!a><!><![CDATA[x]]></ x></><head>|'],
  ['a doctype that an identifier would hide', '<!doctype html "a>|b"><head>'],
  ['> in an attribute', '<!doctype html><html data-y=\'a>b\'><head data-x="a>b">|<title>x</title>'],
  ['> in an attribute with spaces about =', '<head data-x\n=\t"a>b">|<title>'],
  ['a quote in an unquoted value', '<head data-x=a"b>|c">'],
  ['a quote as an attribute name', '<head "a>|b">'],
  ['= as an attribute name', '<head ="a>|b">'],
  ['no value', '<head a=>|<title>'],
  ['attributes without space between', '<head a="1>"b=\'2>\'c/d>|<title>'],
  ['a slash in the tag', '<html/><head/>|<title>'],
  ['a header, not a head', '<!doctype html>|<header>x</header>'],
  ['an element that starts like html', '|<html-viewer></html-viewer>'],
  ['a second html tag', '<html a><html b><head>|<head>'],
  ['ignored end tags', '</p><!doctype html></div a=">"><head>|'],
  ['an end tag that implies the head', '<!doctype html>|</head><p>'],
  ['</body> in front', '|</body>'],
  ['</br> in front', '|</br>'],
  ['a frameset', '<html>|<frameset cols="*,*"></frameset>'],
  ['a NUL in front', '|\0<head>'],
  ['a non-breaking space in front', '|\u00a0<head>'],
  ['< that starts nothing', '| < head>'.replace('| ', ' |')],
  ['ends in a script', '<!doctype html>|<script>"</head></body><head>"</script><p>x'],
  ['ends in a template', '<head>|<template></head></body></template></head><body>'],
  ['no-break attributes over lines', '<html\n  lang="en"\n  class=a\n>\n<head\n>|<title>'],
  // Half-typed: the script runs and hears of the repair.
  ['an unclosed comment', '|<!-- <!doctype html><html><head><title>x'],
  ['an unclosed comment behind the doctype', '<!doctype html>|<!-- <html><head>'],
  ['an unclosed comment in the head', '<head>|<!-- <title>'],
  ['an unclosed script', '<!doctype html><html><head>|<script>let a = "'],
  ['an unclosed title', '<!doctype html>|<title>x'],
  ['an unclosed attribute', '|<html lang="en><head><title>x</title></head>'],
  ['an attribute closed too late', '<html lang="en><meta charset="utf-8">|<title>x</title>'],
  ['an unclosed head tag', '<!doctype html><html>|<head'],
  ['an unclosed doctype', '|<!doctype html'],
  ['<', '|<'],
  ['</', '<html>|</'],
  ['<!-', '|<!-'],
  ['an unclosed tag', '|<p class="a'],
];

for (const [name, marked] of documents) {
  test(`injectHtml() of ${name}`, () => {
    const source = marked.replace('|', '');
    assert.is(html(source).toString(), marked.replace('|', TAG));
  });
}

const SVG = 'image/svg+xml; charset=utf-8';
const XHTML = 'application/xhtml+xml';
const xml: [name: string, type: string, marked: string][] = [
  [
    'XHTML',
    XHTML,
    '<?xml version="1.0"?>\n<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml">|<head/>',
  ],
  [
    'XHTML with an identifier',
    XHTML,
    '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML>" "x.dtd"><html>|<head/></html>',
  ],
  ['SVG', SVG, '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">|<circle r="9"/></svg>'],
  ['SVG with a prefix', SVG, '<s:svg xmlns:s="http://www.w3.org/2000/svg">|<s:g/></s:svg>'],
  ['SVG with > in an attribute', SVG, '<svg a="b>c" d=\'e>f\'>|</svg>'],
  ['SVG with comments', SVG, '\ufeff<!-- <svg> --><?a <svg> ?>\n<svg>|</svg><!-- > -->'],
  [
    'SVG with an internal subset',
    SVG,
    `<!DOCTYPE svg PUBLIC "a" "b" [ <!ENTITY a "]><svg>"> <!-- ' ]> - -- --> <?x?> ] ><svg x="&a;">|</svg>`,
  ],
  ['an empty root', SVG, '<svg/>'],
  ['an unclosed root', SVG, '<svg viewBox="'],
  ['an unclosed comment', SVG, '<!-- <svg></svg>'],
  ['an unclosed subset', SVG, `<!DOCTYPE svg [${'<!-- a -->'.repeat(99)}`],
  ['no element', XHTML, 'hello'],
  ['nothing', XHTML, ''],
];

for (const [name, type, marked] of xml) {
  test(`injectHtml() of ${name} as ${type}`, () => {
    assert.is(html(marked.replace('|', ''), type).toString(), marked.replace('|', XML_TAG));
  });
}

for (const type of [
  '',
  'text/plain',
  'text/htmlx',
  'application/json',
  'text/event-stream',
  'application/xml',
]) {
  test(`injectHtml() leaves "${type}" alone`, () => {
    const source = Buffer.from('<!doctype html><html><head>');
    assert.is(injectHtml(source, type, stamp, { document: true }), source);
  });
}

test('injectHtml() keeps bytes that are no UTF-8', () => {
  const before = Buffer.from('<!doctype html><html title="caf\xe9"><head>', 'latin1');
  const after = Buffer.from('<title>\xe9\xff\0</title>', 'latin1');
  const expected = Buffer.concat([before, Buffer.from(TAG), after]);
  assert.equal(html(Buffer.concat([before, after]), 'text/html; charset=iso-8859-1'), expected);
});

const big = (text: string) => Buffer.from(text, 'utf16le').swap16();
const little = (text: string) => Buffer.from(text, 'utf16le');
const utf16: [name: string, encode: (text: string) => Buffer, start: string, type: string][] = [
  ['UTF-16 LE by its byte order mark', little, '\ufeff<!doctype html><html title="é>">', 'text/html'],
  ['UTF-16 BE by its byte order mark', big, '\ufeff<!doctype html><html title="é>">', 'text/html'],
  ['UTF-16 LE by its type', little, '<!doctype html><html title="é>">', 'text/html; charset=UTF-16'],
  ['UTF-16 BE by its type', big, '<!doctype html><html title="é>">', 'text/html;charset="utf-16be"'],
  ['UTF-16 BE against its type', big, '\ufeff<!doctype html><html>', 'text/html; charset=utf-8'],
  ['UTF-16 LE by its XML declaration', little, '<?xml version="1.0"?><html>', 'text/html'],
  ['UTF-16 BE by its XML declaration', big, '<?xml version="1.0"?><html>', 'text/html'],
];

for (const [name, encode, start, type] of utf16) {
  test(`injectHtml() of ${name}`, () => {
    const result = html(encode(`${start}<head><title>这</title>`), type);
    assert.equal(result, encode(`${start}<head>${TAG}<title>这</title>`));
  });
}

test('injectHtml() of UTF-16 cut inside a character', () => {
  const source = Buffer.concat([big('\ufeff<head>'), Buffer.from([0])]);
  assert.equal(html(source), Buffer.concat([big(`\ufeff<head>${TAG}`), Buffer.from([0])]));
});

test('injectHtml() of a long prefix looks on until the place is found', () => {
  for (const length of [4080, 4090, 4095, 4096, 70_000, 2_000_000]) {
    for (const filling of [`<!--${'x'.repeat(length)}-->`, ' '.repeat(length)]) {
      const source = `<!doctype html>${filling}<html data-x="${'>'.repeat(length)}"><head>`;
      assert.ok(html(`${source}<title>`).toString() === `${source}${TAG}<title>`, `${length}`);
    }
  }
});

test('injectHtml() of 20 MB reads the prefix and copies once', () => {
  const page = Buffer.concat([Buffer.from('<!doctype html><head>'), Buffer.alloc(20_000_000, '<p>x</p>\n')]);
  const before = process.memoryUsage().arrayBuffers;
  const start = process.cpuUsage();
  const result = injectHtml(page, 'text/html', stamp, { document: true });
  const took = process.cpuUsage(start).user / 1000;
  const grown = process.memoryUsage().arrayBuffers - before;
  assert.is(result.length, page.length + TAG.length);
  assert.ok(grown < page.length * 1.1, `${grown} bytes more`);
  assert.ok(took < 1000, `${took} ms`);
});

test('injectHtml() is quick and quiet about hostile prefixes', () => {
  const million = (text: string) => text.repeat(1_000_000 / text.length);
  const sources = [
    '<!--',
    '<!---->',
    '<!--a-',
    '</p>',
    '<html a="',
    "<html b='",
    '<html c=',
    '<',
    '<!',
    '<?',
    '<!doctype "',
  ];
  const prefixes = [...sources, '<!DOCTYPE a [', '<!DOCTYPE a [<!--', '<!DOCTYPE a "', '<a b="c"', ' ', '='];
  const start = process.cpuUsage();
  for (const prefix of prefixes) {
    for (const type of ['text/html', SVG]) {
      html(million(prefix), type);
      html(`<!DOCTYPE a [${million(prefix)}`, type);
      html(`<html ${million(prefix)}`, type);
    }
  }
  const took = process.cpuUsage(start).user / 1000;
  assert.ok(took < 10_000, `${took} ms`);
});

test('injectHtml() gives the same Buffer for the same Buffer and stamp', () => {
  const source = Buffer.from('<!doctype html><html><head>');
  const first = injectHtml(source, 'text/html', stamp, { document: true });
  assert.is(injectHtml(source, 'text/html', { ...stamp }, { document: true }), first);
  const later = injectHtml(source, 'text/html', { ...stamp, id: 'boot-8' }, { document: true });
  assert.is(later.toString(), first.toString().replace('boot-7', 'boot-8'));
  assert.is.not(injectHtml(Buffer.from(source), 'text/html', stamp, { document: true }), first);
});

test('injectHtml() of a document that carries the tag changes nothing', () => {
  for (const [, marked] of documents) {
    const once = html(marked.replace('|', ''));
    assert.is(injectHtml(once, 'text/html', { ...stamp, id: 'boot-9' }, { document: true }), once);
  }
  for (const [, type, marked] of xml) {
    const once = html(marked.replace('|', ''), type);
    assert.is(html(once, type).toString(), once.toString());
  }
});

test('injectHtml() escapes what the tag says, and leaves out what is not known', () => {
  const odd: Stamp = { src: '/a"b<c>&\'é\u2028', id: 'i' };
  assert.is(
    injectHtml(Buffer.from(''), 'text/html', odd, { document: true, nonce: 'abc=' }).toString(),
    '<script async src="/a&#34;b&#60;c&#62;&#38;&#39;&#233;&#8232;" data-id="i" nonce="abc="></script>',
  );
});

const guesses: [name: string, source: string, type: string, isPage: boolean][] = [
  ['a doctype', '<!-- a --> <!doctype html><p>x', 'text/html', true],
  ['an html tag', '<HTML><p>x', 'text/html', true],
  ['a head tag', '<head></head>', 'text/html', true],
  ['a body tag', '\ufeff<body><p>x', 'text/html', true],
  ['an XHTML root', '<html xmlns="http://www.w3.org/1999/xhtml"><head/></html>', XHTML, true],
  ['an element', '<div><html></div>', 'text/html', false],
  ['a comment and an element', '<!-- head --><li>x</li>', 'text/html', false],
  ['text', 'hello', 'text/html', false],
  ['nothing', '', 'text/html', false],
  ['an SVG image', '<svg xmlns="http://www.w3.org/2000/svg"></svg>', 'image/svg+xml', false],
];

for (const [name, source, type, isPage] of guesses) {
  test(`injectHtml() for an unknown request of ${name} ${isPage ? 'injects' : 'does nothing'}`, () => {
    const bytes = Buffer.from(source);
    assert.is(injectHtml(bytes, type, stamp) === bytes, !isPage);
    assert.is(injectHtml(bytes, type, stamp, { document: false }), bytes);
  });
}

// ── isDocumentRequest() ──

const XHTML_ACCEPT = navigation.accept;
const requests: [name: string, headers: Record<string, string>, expected: boolean | undefined][] = [
  ['a navigation', navigation, true],
  ['an iframe', { 'sec-fetch-dest': 'iframe' }, true],
  ['a frame', { 'sec-fetch-dest': 'frame' }, true],
  ['a fetch', { 'sec-fetch-dest': 'empty', 'sec-fetch-mode': 'cors', accept: XHTML_ACCEPT }, false],
  [
    'a navigation through a service worker',
    { 'sec-fetch-dest': 'empty', 'sec-fetch-mode': 'navigate' },
    true,
  ],
  [
    'a navigation through a service worker in Firefox',
    { 'sec-fetch-dest': 'empty', 'sec-fetch-mode': 'same-origin', 'upgrade-insecure-requests': '1' },
    true,
  ],
  ['a fetch from the same origin', { 'sec-fetch-dest': 'empty', 'sec-fetch-mode': 'same-origin' }, false],
  ['an image', { 'sec-fetch-dest': 'image', accept: XHTML_ACCEPT }, false],
  ['an object', { 'sec-fetch-dest': 'object' }, false],
  ['a navigation on an insecure origin', { accept: XHTML_ACCEPT }, true],
  ['a fetch on an insecure origin', { accept: '*/*' }, undefined],
  ['curl', {}, undefined],
];

for (const [name, headers, expected] of requests) {
  test(`isDocumentRequest() of ${name} is ${expected}`, () => {
    assert.is(isDocumentRequest({ headers }), expected);
  });
}

// ── injectResponse() ──

type Handler = (req: IncomingMessage, res: ServerResponse) => void;

interface Site extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly notices: readonly string[];
  get(path?: string, options?: { method?: string; headers?: Record<string, string> }): Promise<Answer>;
}

/** A server of one handler, behind `injectResponse()` unless it wraps the response itself. */
async function site(
  handler: Handler,
  options: { wrap?: boolean; conditional?: boolean; collect?: () => Collector } = {},
): Promise<Site> {
  const notices: string[] = [];
  const onNotice = (line: string) => notices.push(line);
  const server = createServer((req, res) => {
    if (options.wrap !== false) injectResponse(req, res, () => stamp, { onNotice, ...options });
    handler(req, res);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    port,
    notices,
    get: (path = '/', { method, headers } = {}) =>
      get(url, path, { ...(method && { method }), headers: { ...navigation, ...headers } }),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const PAGE = '<!doctype html>\n<html lang="en">\n<head><title>é</title></head><body>é</body></html>';
const CARRYING = PAGE.replace('<head>', `<head>${TAG}`);
/** In place of a page: what was kept of that is for that. */
const STAND_IN_TAG = TAG.replace('></script>', ' data-plain="instead"></script>');
const STANDING_IN = PAGE.replace('<head>', `<head>${STAND_IN_TAG}`);
const bytesOf = (text: string) => `${Buffer.byteLength(text)}`;

const asHtml = { 'Content-Type': 'text/html; charset=utf-8' };
const senders: [name: string, handler: Handler, length: boolean][] = [
  ['setHeader() and end()', (_, res) => res.setHeader('content-type', 'text/html').end(PAGE), true],
  ['writeHead() and end()', (_, res) => res.writeHead(200, asHtml).end(PAGE), false],
  [
    'writeHead() with a length',
    (_, res) => res.writeHead(200, { ...asHtml, 'content-length': Buffer.byteLength(PAGE) }).end(PAGE),
    true,
  ],
  [
    'writeHead() with a reason and a length',
    (_, res) => res.writeHead(200, 'Fine', { ...asHtml, 'content-length': bytesOf(PAGE) }).end(PAGE),
    true,
  ],
  [
    'writeHead() with a flat array',
    (_, res) => res.writeHead(200, ['content-type', 'text/html', 'content-length', bytesOf(PAGE)]).end(PAGE),
    true,
  ],
  ['end() of a Buffer', (_, res) => res.writeHead(200, asHtml).end(Buffer.from(PAGE)), false],
  [
    'end() of a Uint8Array',
    (_, res) => res.writeHead(200, asHtml).end(new TextEncoder().encode(PAGE)),
    false,
  ],
  [
    'end() with an encoding',
    (_, res) => res.writeHead(200, asHtml).end(Buffer.from(PAGE).toString('hex'), 'hex'),
    false,
  ],
  [
    'write() and end()',
    (_, res) => {
      res.writeHead(200, asHtml).write(PAGE);
      res.end();
    },
    false,
  ],
  [
    'many writes of one byte',
    (_, res) => {
      res.writeHead(200, asHtml);
      for (const byte of Buffer.from(PAGE)) res.write(Buffer.from([byte]));
      res.end();
    },
    false,
  ],
  [
    'writes under a length',
    (_, res) => {
      res.writeHead(200, { ...asHtml, 'content-length': bytesOf(PAGE) });
      res.write(PAGE.slice(0, 20));
      res.end(PAGE.slice(20));
    },
    true,
  ],
  [
    'flushHeaders() first',
    (_, res) => {
      res.writeHead(200, asHtml).flushHeaders();
      res.end(PAGE);
    },
    false,
  ],
  [
    'pipe()',
    (_, res) => Readable.from([PAGE.slice(0, 9), PAGE.slice(9)]).pipe(res.writeHead(200, asHtml)),
    false,
  ],
  ['no Content-Type', (_, res) => res.end(PAGE), true],
  ['an error status', (_, res) => res.writeHead(500, asHtml).end(PAGE), false],
];

for (const [name, handler, hasLength] of senders) {
  test(`injectResponse() of ${name}`, async () => {
    await using server = await site(handler);
    const answer = await server.get();
    assert.is(answer.text, answer.status === 200 ? CARRYING : STANDING_IN);
    assert.is(answer.headers['transfer-encoding'], answer.headers['content-length'] ? undefined : 'chunked');
    if (hasLength) assert.is(answer.headers['content-length'], bytesOf(CARRYING));
  });
}

for (const [name, handler] of senders) {
  test(`injectResponse() collects the source of ${name}, as it was`, async () => {
    const sources = createSources();
    await using server = await site(handler, sources);
    const { text, status } = await server.get();
    const [, id = ''] = / data-source="([^"]+)"/.exec(text) ?? [];
    assert.is(text.replace(` data-source="${id}"`, ''), status === 200 ? CARRYING : STANDING_IN);
    assert.is(sources.find(id)?.toString(), status === 200 ? PAGE : undefined);
    assert.is(id.length, status === 200 ? 22 : 0);
  });
}

test('injectResponse() collects nothing but what a navigation by GET may get again', async () => {
  const sources = createSources();
  await using server = await site((_, res) => res.writeHead(200, asHtml).end(PAGE), sources);
  for (const options of [
    { method: 'POST' },
    { headers: { 'sec-fetch-dest': 'empty', 'sec-fetch-mode': 'cors' } },
  ]) {
    assert.not.match((await server.get('/', options)).text, 'data-source');
  }
  const carrying = (_: IncomingMessage, res: ServerResponse) => void res.writeHead(200, asHtml).end(CARRYING);
  await using other = await site(carrying, sources);
  assert.is((await other.get()).text, CARRYING);
});

test('injectResponse() forgets a source that has no end', async () => {
  const sources = createSources();
  await using server = await site((_, res) => {
    res.writeHead(200, asHtml).write(PAGE);
    setImmediate(() => res.destroy());
  }, sources);
  using client = raw(server.port, `GET / HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Dest: document\r\n\r\n`);
  const [, id = ''] = / data-source="([^"]+)"/.exec(await client.end()) ?? [];
  assert.is(id.length, 22);
  assert.is(sources.find(id), undefined);
});

test('injectResponse() gives a page under every status that has a body', async () => {
  for (const status of [200, 201, 202, 203, 400, 401, 403, 404, 410, 416, 418, 500, 503]) {
    await using server = await site((_, res) => res.writeHead(status, asHtml).end(PAGE));
    const answer = await server.get();
    assert.equal([answer.status, answer.text], [status, status < 400 ? CARRYING : STANDING_IN]);
  }
});

const fetched = { 'sec-fetch-dest': 'empty', 'sec-fetch-mode': 'cors', accept: '*/*' };

const untouched: [name: string, headers: Record<string, string>, handler: Handler][] = [
  ['a fetched fragment', fetched, (_, res) => res.writeHead(200, asHtml).end(PAGE)],
  ['JSON', {}, (_, res) => res.writeHead(200, { 'content-type': 'application/json' }).end(PAGE)],
  ['text', {}, (_, res) => res.setHeader('content-type', 'text/plain').end(PAGE)],
  ['a redirect', {}, (_, res) => res.writeHead(302, { ...asHtml, location: '/x' }).end(PAGE)],
  ['a part', {}, (_, res) => res.writeHead(206, { ...asHtml, 'content-range': 'bytes 0-9/99' }).end(PAGE)],
  [
    'a download',
    {},
    (_, res) => res.writeHead(200, { ...asHtml, 'content-disposition': 'attachment' }).end(PAGE),
  ],
  ['an encoded page', {}, (_, res) => res.writeHead(200, { ...asHtml, 'content-encoding': 'x' }).end(PAGE)],
  ['text without a type', {}, (_, res) => res.end(`hello ${PAGE}`)],
];

for (const [name, headers, handler] of untouched) {
  test(`injectResponse() leaves ${name} alone`, async () => {
    const whole: Handler = (req, res) =>
      handler(req, res.setHeader('etag', '"1"').setHeader('accept-ranges', 'bytes'));
    await using plain = await site(whole, { wrap: false });
    await using server = await site(whole);
    const [expected, answer] = [await plain.get('/', { headers }), await server.get('/', { headers })];
    assert.is(answer.text, expected.text);
    assert.equal({ ...answer.headers, date: '' }, { ...expected.headers, date: '' });
  });
}

const bodiless: [status: number, headers: Record<string, string>][] = [
  [204, {}],
  [304, { etag: '"1"' }],
];
for (const [status, headers] of bodiless) {
  test(`injectResponse() of a ${status} has no body and keeps its head`, async () => {
    await using server = await site((_, res) => res.writeHead(status, { ...asHtml, ...headers }).end());
    const answer = await server.get();
    assert.equal([answer.status, answer.text, answer.headers.etag], [status, '', headers.etag]);
  });
}

test('injectResponse() of an empty page is the tag', async () => {
  await using server = await site((_, res) => res.writeHead(200, { ...asHtml, 'content-length': 0 }).end());
  const answer = await server.get();
  assert.equal([answer.text, answer.headers['content-length']], [TAG, `${TAG.length}`]);
});

test('injectResponse() of a fragment to an unknown request changes neither body nor head', async () => {
  const handler: Handler = (_, res) =>
    res.writeHead(200, { ...asHtml, etag: '"1"', 'content-length': 9 }).end('<p>hey</p'); // 9 bytes
  await using server = await site(handler);
  const answer = await get(server.url, '/', { headers: { accept: '*/*' } });
  assert.equal(
    [answer.text, answer.headers.etag, answer.headers['content-length']],
    ['<p>hey</p', '"1"', '9'],
  );
});

test('injectResponse() of a page to an unknown request carries the tag', async () => {
  await using server = await site((_, res) => res.writeHead(200, asHtml).end(PAGE));
  assert.is((await get(server.url, '/')).text, CARRYING);
});

test('injectResponse() drops what spoke of the original bytes', async () => {
  const original = {
    etag: '"1"',
    'last-modified': 'Mon, 01 Jan 2024 00:00:00 GMT',
    'accept-ranges': 'bytes',
    'content-md5': 'x',
    'repr-digest': 'x',
  };
  await using server = await site((_, res) =>
    res.writeHead(200, { ...asHtml, ...original, 'x-own': 'kept' }).end(PAGE),
  );
  const { headers } = await server.get();
  for (const name of Object.keys(original)) assert.is(headers[name], undefined, name);
  assert.is(headers['x-own'], 'kept');
});

test('injectResponse() keeps the head and the status line of writeHead()', async () => {
  const cookies = ['a=1', 'b=2'];
  const heads: Handler[] = [
    (_, res) =>
      res.writeHead(201, 'So be it', { ...asHtml, 'Set-Cookie': cookies, 'X-Set': 'new' }).end(PAGE),
    (_, res) => {
      const flat = ['content-type', 'text/html', 'set-cookie', 'a=1', 'Set-Cookie', 'b=2', 'x-set', 'new'];
      res.writeHead(201, 'So be it', flat).end(PAGE);
    },
  ];
  for (const handler of heads) {
    await using server = await site((req, res) =>
      handler(req, res.setHeader('x-set', 'old').setHeader('set-cookie', 'old')),
    );
    using connection = raw(
      server.port,
      `GET / HTTP/1.1\r\nHost: localhost\r\nAccept: ${navigation.accept}\r\n\r\n`,
    );
    const [head] = await connection.match(/^HTTP.*?\r\n\r\n/s);
    assert.match(head, /^HTTP\/1\.1 201 So be it\r\n/);
    assert.match(head, /x-set: new\r\n/i);
    assert.equal(head.match(/(?<=set-cookie: ).*/gi), cookies);
    assert.not.match(head, /old/);
  }
});

test('injectResponse() to HEAD has the head of GET but its length', async () => {
  const handler: Handler = (_, res) =>
    res.writeHead(200, { ...asHtml, etag: '"1"', 'content-length': bytesOf(PAGE) }).end(PAGE);
  await using server = await site(handler);
  const [head, whole] = [await server.get('/', { method: 'HEAD' }), await server.get('/')];
  assert.is(head.text, '');
  assert.is(head.headers['content-length'], undefined);
  const same = { date: '', 'content-length': '', 'transfer-encoding': '' };
  assert.equal({ ...head.headers, ...same }, { ...whole.headers, ...same });
});

test('injectResponse() to POST is a page like any other', async () => {
  await using server = await site((_, res) => res.writeHead(200, asHtml).end(PAGE));
  assert.is((await server.get('/', { method: 'POST' })).text, CARRYING);
});

test('injectResponse() hides validators and encodings from the handlers of a document only', async () => {
  const conditional = { 'if-none-match': '"1"', 'if-modified-since': 'x', 'accept-encoding': 'gzip, br' };
  const handler: Handler = ({ headers }, res) =>
    res.end(`${headers['if-none-match']} ${headers['if-modified-since']} ${headers['accept-encoding']}`);
  await using server = await site(handler);
  assert.is((await server.get('/', { headers: conditional })).text, 'undefined undefined identity');
  assert.is((await server.get('/', { headers: { ...conditional, ...fetched } })).text, '"1" x gzip, br');
  assert.is((await get(server.url, '/', { headers: conditional })).text, '"1" x identity');
  await using keeping = await site(handler, { conditional: true });
  assert.is((await keeping.get('/', { headers: conditional })).text, '"1" x identity');
});

test('injectResponse() twice gives one tag', async () => {
  await using server = await site((req, res) => {
    injectResponse(req, res, () => ({ ...stamp, id: 'boot-8' }));
    res.writeHead(200, asHtml).end(PAGE);
  });
  assert.is((await server.get()).text, CARRYING);
});

test('injectResponse() of a page that carries the tag keeps it, its length and its validators', async () => {
  await using server = await site((_, res) => {
    res.writeHead(200, { ...asHtml, etag: '"1"', 'content-length': bytesOf(CARRYING) });
    const parts = /^(.*<head><scr)(ipt async src=".*?client)(.*)$/s.exec(CARRYING)?.slice(1) ?? [];
    for (const part of parts) res.write(part);
    res.end();
  });
  const { text, headers } = await server.get();
  assert.equal([text, headers.etag, headers['content-length']], [CARRYING, '"1"', bytesOf(CARRYING)]);
});

test('injectResponse() lets a stream flow from the place on', async () => {
  let go = () => {};
  await using server = await site((_, res) => {
    res.writeHead(200, asHtml);
    res.write('<!doctype html><html><he');
    res.write('ad><title>');
    go = () => res.end('x</title>');
  });
  using connection = raw(
    server.port,
    `GET / HTTP/1.1\r\nHost: localhost\r\nAccept: ${navigation.accept}\r\n\r\n`,
  );
  await connection.match(/<html><head><script .*><\/script><title>/);
  assert.not.match(connection.received(), /x<\/title>/);
  go();
  await connection.match(/x<\/title>/);
});

test('injectResponse() sends the head at flushHeaders()', async () => {
  let go = () => {};
  await using server = await site((_, res) => {
    res.setHeader('content-type', 'text/html').setHeader('content-length', bytesOf(PAGE));
    res.flushHeaders();
    go = () => res.end(PAGE);
  });
  using connection = raw(
    server.port,
    `GET / HTTP/1.1\r\nHost: localhost\r\nAccept: ${navigation.accept}\r\n\r\n`,
  );
  const [head] = await connection.match(/^HTTP.*?\r\n\r\n/s);
  assert.not.match(head, /content-length/i);
  go();
  await connection.match(/<\/html>/);
  assert.match(connection.received(), TAG);
});

test('injectResponse() holds back 64 KB at most', async () => {
  const comment = `<!doctype html><!--${'x'.repeat(70_000)}`;
  await using server = await site((_, res) => {
    res.writeHead(200, asHtml);
    res.write(comment); // and never an end of it
  });
  using connection = raw(
    server.port,
    `GET / HTTP/1.1\r\nHost: localhost\r\nAccept: ${navigation.accept}\r\n\r\n`,
  );
  await connection.match(/<!doctype html><script .*><\/script><!--x{70000}/);
});

test('injectResponse() never puts the tag in front of a doctype that is late', async () => {
  const comment = `<!--${'x'.repeat(70_000)}`;
  await using server = await site((_, res) => {
    res.writeHead(200, asHtml);
    res.write(comment);
    res.end('--><!doctype html><head>');
  });
  assert.is((await server.get()).text, `${comment}--><!doctype html><head>`);
});

test('injectResponse() of a 20 MB stream', async () => {
  const part = Buffer.alloc(100_000, '<p>x</p>\n');
  await using server = await site((_, res) => {
    const parts = [Buffer.from(PAGE), ...Array.from({ length: 200 }, () => part)];
    Readable.from(parts).pipe(res.writeHead(200, asHtml));
  });
  const { body } = await server.get();
  assert.is(body.length, Buffer.byteLength(CARRYING) + 200 * part.length);
  assert.is(body.toString('utf8', 0, Buffer.byteLength(CARRYING)), CARRYING);
});

test('injectResponse() of a file that is piped', async () => {
  using dir = folder({ 'a.html': PAGE });
  await using server = await site((_, res) => {
    createReadStream(dir.file('a.html')).pipe(res.setHeader('content-type', 'text/html'));
  });
  assert.is((await server.get()).text, CARRYING);
});

test('injectResponse() of UTF-16 byte by byte', async () => {
  await using server = await site((_, res) => {
    for (const byte of little('\ufeff<html><head><title>')) res.write(Buffer.from([byte]));
    res.end();
  });
  await using typed = await site((_, res) => {
    res.setHeader('content-type', 'text/html');
    for (const byte of little('\ufeff<html><head><title>')) res.write(Buffer.from([byte]));
    res.end();
  });
  assert.equal((await typed.get()).body, little(`\ufeff<html><head>${TAG}<title>`));
  assert.equal(
    (await server.get()).body,
    little('\ufeff<html><head><title>'),
    'without a type it is no HTML',
  );
});

test('injectResponse() sees what middleware sets at the last moment', async () => {
  await using server = await site((_, res) => {
    const { writeHead } = res;
    res.setHeader('content-type', 'text/html').setHeader('content-length', bytesOf(PAGE));
    res.writeHead = (...args: readonly unknown[]) => {
      res.setHeader('content-type', 'text/plain');
      Reflect.apply(writeHead, res, args);
      return res;
    };
    res.end(PAGE);
  });
  const { text, headers } = await server.get();
  assert.equal([text, headers['content-type']], [PAGE, 'text/plain']);
});

test('injectResponse() calls back for every write', async () => {
  const called: string[] = [];
  await using server = await site((_, res) => {
    res.writeHead(200, asHtml);
    res.write('<!doctype html>', () => called.push('held'));
    res.write('<head>', 'utf8', () => called.push('released'));
    res.write('<title>', () => called.push('passed'));
    res.end(() => called.push('ended'));
  });
  await server.get();
  await until('all to be called', () => called.length === 4);
  assert.equal(called, ['held', 'released', 'passed', 'ended']);
});

test('injectResponse() says that the page was begun while it is held back', async () => {
  const sent: boolean[] = [];
  await using server = await site((_, res) => {
    res.writeHead(200, asHtml);
    res.write('<!doctype html>');
    sent.push(res.headersSent);
    res.end('<head>');
    sent.push(res.headersSent);
  });
  assert.is((await server.get()).text, `<!doctype html><head>${TAG}`);
  assert.equal(sent, [true, true]);
});

test('injectResponse() lets an error page take the place of a page that was announced only', async () => {
  await using server = await site((_, res) => {
    res.writeHead(200, { ...asHtml, 'content-length': 999 });
    if (!res.headersSent)
      res.writeHead(500, { 'content-type': 'text/plain', 'content-length': 4 }).end('oops');
  });
  const answer = await server.get();
  assert.equal([answer.status, answer.text], [500, 'oops']);
});

test('injectResponse() throws what end() throws', async () => {
  await using server = await site((_, res) => {
    try {
      Reflect.apply(res.writeHead(200, asHtml).end, res, [42]);
    } catch (error) {
      res.end(String(error));
    }
  });
  assert.match((await server.get()).text, /ERR_INVALID_ARG_TYPE/);
});

test('injectResponse() copies the nonce and says what a policy has to allow', async () => {
  await using server = await site((req, res) => {
    res.setHeader('content-security-policy', decodeURIComponent(req.url?.slice(2) ?? ''));
    res.setHeader('content-type', 'text/html').end(PAGE);
  });
  const ask = (policy: string) => server.get(`/?${encodeURIComponent(policy)}`);
  const answer = await ask("script-src 'nonce-abc' 'strict-dynamic'");
  assert.is(answer.text, CARRYING.replace('"></script>', '" nonce="abc"></script>'));
  assert.is(answer.headers['content-security-policy'], "script-src 'nonce-abc' 'strict-dynamic'");
  assert.is((await ask(`script-src ${server.url}`)).text, CARRYING);
  assert.equal(server.notices, []);
  assert.is((await ask("script-src 'none'")).text, CARRYING);
  assert.equal(server.notices, [
    `The Content-Security-Policy of "/?script-src%20'none'" blocks the client: allow 'self' in its script-src`,
  ]);
});

test('injectResponse() asks for the stamp at once and only for what may be a document', async () => {
  const order: string[] = [];
  const handler: Handler = (req, res) => {
    injectResponse(req, res, () => {
      order.push(`stamp of ${req.url}`);
      return stamp;
    });
    order.push(`handler of ${req.url}`);
    res.writeHead(200, asHtml).end(PAGE);
  };
  await using server = await site(handler, { wrap: false });
  await server.get('/a');
  await server.get('/b', { headers: { 'sec-fetch-dest': 'image' } });
  assert.equal(order, ['stamp of /a', 'handler of /a', 'handler of /b']);
});

test('injectResponse() survives clients that leave while a page is held back', async () => {
  let arrived = 0;
  let closed = 0;
  await using server = await site((_, res) => {
    arrived++;
    res.on('close', () => closed++);
    res.writeHead(200, asHtml);
    res.write('<!doctype html>');
    res.on('close', () => res.write('<head>') && res.end('x'));
  });
  for (let i = 0; i < 20; i++) {
    using connection = raw(
      server.port,
      `GET / HTTP/1.1\r\nHost: localhost\r\nAccept: ${navigation.accept}\r\n\r\n`,
    );
    await until('the request to arrive', () => arrived === i + 1 && !connection.closed());
  }
  await until('all of them to be gone', () => closed === 20);
  await using alive = await site((_, res) => res.writeHead(200, asHtml).end(PAGE));
  assert.is((await alive.get()).text, CARRYING);
});

// ── The real packages, the middleware ahead of whatever sends the HTML ──

type Next = () => void;
const inject = (req: IncomingMessage, res: ServerResponse, next: Next) => {
  injectResponse(req, res, () => stamp);
  next();
};
/** Sets a header at the last moment, as `on-headers` does. */
const atLast = (_: IncomingMessage, res: ServerResponse, next: Next) => {
  const { writeHead } = res;
  res.writeHead = (...args: readonly unknown[]) => {
    res.setHeader('x-last', 'yes');
    Reflect.apply(writeHead, res, args);
    return res;
  };
  next();
};

const sendWhole: Handler = (_, res) => {
  res.setHeader('content-type', 'text/html; charset=utf-8');
  res.end(PAGE);
};
const sendHead: Handler = (_, res) => {
  res.writeHead(200, { ...asHtml, 'content-length': bytesOf(PAGE) }).end(PAGE);
};
const sendStream: Handler = (_, res) => {
  res.setHeader('content-type', 'text/html; charset=utf-8');
  Readable.from([PAGE.slice(0, 3), PAGE.slice(3, 30), PAGE.slice(30)]).pipe(res);
};

type Middleware = (req: IncomingMessage, res: ServerResponse, next: Next) => void;
const apps: Record<string, (middlewares: readonly Middleware[], send: Handler) => Handler> = {
  'express 5': (middlewares, send) => {
    const app = express();
    for (const one of middlewares) app.use((req, res, next) => one(req, res, next));
    return app.get('/', send);
  },
  polka: (middlewares, send) => {
    const app = polka();
    for (const one of middlewares) app.use((req, res, next) => one(req, res, next));
    const { handler } = app.get('/', send);
    return (req, res) => Reflect.apply(handler, app, [req, res]);
  },
  connect: (middlewares, send) => {
    const app = connect();
    for (const one of middlewares) app.use((req, res, next) => one(req, res, next));
    return app.use(send);
  },
  'node:http': (middlewares, send) => (req, res) => {
    const run = (i: number): void => {
      const one = middlewares[i];
      if (one) one(req, res, () => run(i + 1));
      else send(req, res);
    };
    run(0);
  },
};

const orders: [name: string, middlewares: () => Middleware[]][] = [
  ['alone', () => [inject]],
  ['ahead of compression()', () => [inject, packed()]],
  ['behind compression()', () => [packed(), inject]],
  ['between two that set headers at the last moment', () => [atLast, inject, atLast]],
  ['twice', () => [inject, packed(), inject, atLast]],
];

/** Packs everything, however small. */
function packed(): Middleware {
  const handler = compression({ threshold: 0 });
  return (req, res, next) => {
    Reflect.apply(handler, undefined, [req, res, next]);
  };
}

const sends: [name: string, send: Handler][] = [
  ['end()', sendWhole],
  ['writeHead()', sendHead],
  ['a stream', sendStream],
];

for (const [app, build] of Object.entries(apps)) {
  for (const [order, middlewares] of orders) {
    for (const [way, send] of sends) {
      test(`injectResponse() in ${app}, ${order}, before ${way}`, async () => {
        await using server = await site(build(middlewares(), send), { wrap: false });
        const answer = await server.get('/', { headers: { 'accept-encoding': 'gzip, br' } });
        assert.equal([answer.status, answer.text], [200, CARRYING]);
        assert.is(answer.headers['content-encoding'], undefined);
        if (order.includes('moment')) assert.is(answer.headers['x-last'], 'yes');
      });
    }
  }
}

test('injectResponse() in express 5 of send(), sendFile(), static() and an error page', async () => {
  using dir = folder({ 'a.html': PAGE });
  const app = express();
  app.use((req, res, next) => inject(req, res, next));
  app.get('/send', (_, res) => {
    res.send(PAGE);
  });
  app.get('/file', (_, res) => {
    res.sendFile(dir.file('a.html'));
  });
  app.get('/error', () => {
    throw new Error('on purpose');
  });
  app.use(express.static(dir.path));
  app.set('env', 'test');
  await using server = await site(app, { wrap: false });
  const fresh = { 'if-none-match': '*', 'if-modified-since': new Date(Date.now() + 1e6).toUTCString() };
  for (const path of ['/send', '/file', '/a.html']) {
    const answer = await server.get(path, { headers: fresh });
    assert.equal([answer.status, answer.text], [200, CARRYING], path);
    assert.is(answer.headers['content-length'], bytesOf(CARRYING));
    assert.equal([answer.headers.etag, answer.headers['last-modified']], [undefined, undefined]);
  }
  const error = await server.get('/error');
  assert.equal([error.status, error.text.split(STAND_IN_TAG).length], [500, 2]);
  const missing = await server.get('/missing');
  assert.equal([missing.status, missing.text.split(STAND_IN_TAG).length], [404, 2]);
  const again = await server.get('/a.html', { headers: { ...fetched, ...fresh } });
  assert.is(again.status, 304);
});

for (const [way, send] of sends) {
  test(`injectResponse() over HTTP/2 before ${way}`, async () => {
    const server = createHttp2Server((req, res) => {
      // Its request and response are made to be used like those of HTTP/1.1, which their types don't say.
      Reflect.apply(inject, undefined, [req, res, () => Reflect.apply(send, undefined, [req, res])]);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const session = connectHttp2(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    const stream = session.request({ ':path': '/', ...navigation });
    const [head] = await within('the head', once(stream, 'response'));
    const chunks: Buffer[] = await within('the page', stream.toArray());
    const text = Buffer.concat(chunks).toString();
    session.close();
    await new Promise<void>((resolve) => server.close(() => resolve()));
    assert.equal([head[':status'], text], [200, CARRYING]);
    if (way === 'writeHead()') assert.is(head['content-length'], bytesOf(CARRYING));
  });
}

test('injectResponse() leaves other answers to compression()', async () => {
  const app = connect().use(inject).use(packed());
  app.use((_: IncomingMessage, res: ServerResponse) => res.setHeader('content-type', 'text/css').end('a{}'));
  await using server = await site(app, { wrap: false });
  const headers = { 'sec-fetch-dest': 'style', 'accept-encoding': 'gzip' };
  const answer = await server.get('/', { headers });
  assert.equal([answer.headers['content-encoding'], gunzipSync(answer.body).toString()], ['gzip', 'a{}']);
});

test('injectResponse() does not touch a page that is packed without having been asked', async () => {
  const bytes = gzipSync(PAGE);
  await using server = await site((_, res) =>
    res.writeHead(200, { ...asHtml, 'content-encoding': 'gzip' }).end(bytes),
  );
  assert.equal((await server.get()).body, bytes);
});

test('injectResponse() answers many requests on one connection', async () => {
  await using server = await site(sendHead);
  const request = `GET / HTTP/1.1\r\nHost: localhost\r\nAccept: ${navigation.accept}\r\n\r\n`;
  using connection = raw(server.port, request.repeat(50));
  await within(
    'fifty pages',
    until('them', () => connection.received().split('</html>').length === 51),
  );
  assert.is(connection.received().split(TAG).length, 51);
});

test.run();
