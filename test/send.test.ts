// What the suites of send and serve-static assert, wherever start() has such an option: the facts in a table of our own.
// Otherwise on purpose: `no-cache` instead of a max-age, strong ETags, a redirect as plain text (301), pages of ours for
// errors, `..` and `//` in a path are refused instead of resolved.

import { utimesSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { start } from '../src/index.ts';
import { type Answer, folder, get } from './harness.ts';

const site = folder({
  'name.txt': 'four',
  'empty.txt': '',
  'some thing.txt': 'spaced',
  'a..b.txt': 'dots',
  numbers: '123456789',
  'page.html': '<p>page</p>',
  'plain.html': 'x',
  'users/index.html': '<p>users</p>',
  'users/one.txt': 'nested',
  'snow ☃/index.html': '<p>snow</p>',
  'bare/file.txt': '',
  '.hidden': 'hidden',
  '.well-known/info.txt': 'known',
});
const longAgo = new Date('2020-02-02T02:02:02Z');
utimesSync(site.file('name.txt'), longAgo, longAgo);
utimesSync(site.file('numbers'), longAgo, longAgo);
const server = await start({ root: site.path, port: 0, headers: { 'X-Own': 'yes' } });
const first = await get(server.url, '/name.txt');
const numbers = await get(server.url, '/numbers');
test.after(async () => {
  await server.close();
  site[Symbol.dispose]();
});

interface Expected {
  readonly status: number;
  readonly body?: string | RegExp;
  /** `undefined`: the header is not there. */
  readonly headers?: Record<string, string | RegExp | undefined>;
}
type Row = [
  what: string,
  path: string,
  sent: { method?: string; headers?: Record<string, string> },
  Expected,
];

const DATE = /^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/;
const etag = String(first.headers.etag);
const modified = String(first.headers['last-modified']);
const minute = (offset: number) => new Date(Date.parse(modified) + offset * 60_000).toUTCString();
const range = (value: string, more = {}) => ({ headers: { range: value, ...more } });
const whole: Expected = { status: 200, body: '123456789', headers: { 'content-range': undefined } };
const part = (body: string, contentRange: string): Expected => ({
  status: 206,
  body,
  headers: { 'content-range': contentRange, 'content-length': String(body.length) },
});
const beyond: Expected = { status: 416, headers: { 'content-range': 'bytes */9' } };

const rows: Row[] = [
  ['a file is sent', '/name.txt', {}, { status: 200, body: 'four', headers: { 'content-length': '4' } }],
  ['an empty file is sent', '/empty.txt', {}, { status: 200, body: '', headers: { 'content-length': '0' } }],
  ['a nested file is sent', '/users/one.txt', {}, { status: 200, body: 'nested' }],
  ['the path is decoded', '/some%20thing.txt', {}, { status: 200, body: 'spaced' }],
  ['two dots in a name are no traversal', '/a..b.txt', {}, { status: 200, body: 'dots' }],
  ['bytes that are no text are a bad request', '/some%99thing.txt', {}, { status: 400 }],
  ['a malformed escape is a bad request', '/%', {}, { status: 400 }],
  ['NUL is a bad request', '/some%00thing.txt', {}, { status: 400 }],
  ['a name too long for the disk is not found', `/${'foobar'.repeat(100)}`, {}, { status: 404 }],
  ['a file is no folder', '/name.txt/a.php', {}, { status: 404 }],
  ['a file with a slash behind it is not found', '/name.txt/', {}, { status: 404 }],
  ['what is not there is not found', '/does-not-exist', {}, { status: 404, body: /^<!doctype html>/ }],
  [
    'HEAD has the length and no body',
    '/name.txt',
    { method: 'HEAD' },
    { status: 200, body: '', headers: { 'content-length': '4' } },
  ],
  [
    'POST is refused with what is allowed',
    '/name.txt',
    { method: 'POST' },
    { status: 405, headers: { allow: 'GET, HEAD' } },
  ],
  [
    'an ETag, a date, a Last-Modified and ranges are offered',
    '/name.txt',
    {},
    {
      status: 200,
      headers: {
        etag: /^(W\/)?"[^"]+"$/,
        date: DATE,
        'last-modified': DATE,
        'accept-ranges': 'bytes',
        'cache-control': 'no-cache',
      },
    },
  ],
  [
    'text has its charset',
    '/name.txt',
    {},
    { status: 200, headers: { 'content-type': /^text\/plain; charset=utf-8$/i } },
  ],
  [
    'HTML has its charset',
    '/plain.html',
    {},
    { status: 200, headers: { 'content-type': /^text\/html; charset=utf-8$/i } },
  ],
  ['a header of the user comes along', '/name.txt', {}, { status: 200, headers: { 'x-own': 'yes' } }],
  ['HTML is found without its ending', '/page', {}, { status: 200, body: '<p>page</p>' }],
  ['a file wins over the same name with an ending', '/numbers', {}, { status: 200, body: '123456789' }],
  [
    'a folder is its index',
    '/users/',
    {},
    { status: 200, body: '<p>users</p>', headers: { 'content-type': /html/ } },
  ],
  ['a folder is redirected to its slash', '/users', {}, { status: 301, headers: { location: '/users/' } }],
  [
    'the query stays in the redirect',
    '/users?name=john',
    {},
    { status: 301, headers: { location: '/users/?name=john' } },
  ],
  [
    'a redirect is encoded',
    '/snow%20%E2%98%83',
    {},
    { status: 301, headers: { location: '/snow%20%E2%98%83/' } },
  ],
  [
    'a redirect never leads to another host',
    '//users',
    {},
    { status: 400, headers: { location: undefined } },
  ],
  ['nor does one with a backslash', '/%5Cusers', {}, { status: 400, headers: { location: undefined } }],
  ['a path beyond the root is refused', '/users/../../name.txt', {}, { status: 400 }],
  ['an encoded one too', '/users/%2e%2e/%2e%2e/name.txt', {}, { status: 400 }],
  ['a hidden file is not found', '/.hidden', {}, { status: 404 }],
  [
    'one in a hidden folder that is none is sent',
    '/.well-known/info.txt',
    {},
    { status: 200, body: 'known' },
  ],
  ['a hidden name that does not exist is no different', '/.nothing', {}, { status: 404 }],

  [
    'If-None-Match of this ETag',
    '/name.txt',
    { headers: { 'if-none-match': etag } },
    { status: 304, body: '', headers: { 'content-type': undefined, 'content-length': undefined, etag } },
  ],
  [
    'If-None-Match of a list with it',
    '/name.txt',
    { headers: { 'if-none-match': `"a", ${etag}` } },
    { status: 304 },
  ],
  ['If-None-Match of anything', '/name.txt', { headers: { 'if-none-match': '*' } }, { status: 304 }],
  [
    'If-None-Match of another',
    '/name.txt',
    { headers: { 'if-none-match': '"123"' } },
    { status: 200, body: 'four' },
  ],
  [
    'If-None-Match decides, not the date',
    '/name.txt',
    { headers: { 'if-none-match': '"123"', 'if-modified-since': modified } },
    { status: 200 },
  ],
  [
    'If-Modified-Since this date',
    '/name.txt',
    { headers: { 'if-modified-since': modified } },
    { status: 304 },
  ],
  [
    'If-Modified-Since a later one',
    '/name.txt',
    { headers: { 'if-modified-since': minute(1) } },
    { status: 304 },
  ],
  [
    'If-Modified-Since an earlier one',
    '/name.txt',
    { headers: { 'if-modified-since': minute(-1) } },
    { status: 200, body: 'four' },
  ],
  ['If-Modified-Since no date', '/name.txt', { headers: { 'if-modified-since': 'foo' } }, { status: 200 }],
  [
    'Cache-Control: no-cache is a reload',
    '/name.txt',
    { headers: { 'if-none-match': etag, 'cache-control': 'no-cache' } },
    { status: 200, body: 'four' },
  ],
  ['If-Match of anything', '/name.txt', { headers: { 'if-match': '*' } }, { status: 200 }],
  ['If-Match of others', '/name.txt', { headers: { 'if-match': ' "foo", "bar" ' } }, { status: 412 }],
  [
    'If-Match of a list with it',
    '/name.txt',
    { headers: { 'if-match': `"foo", "bar", ${etag}` } },
    { status: 200 },
  ],
  [
    'If-Unmodified-Since this date',
    '/name.txt',
    { headers: { 'if-unmodified-since': modified } },
    { status: 200 },
  ],
  [
    'If-Unmodified-Since an earlier one',
    '/name.txt',
    { headers: { 'if-unmodified-since': minute(-1) } },
    { status: 412 },
  ],
  [
    'If-Unmodified-Since no date',
    '/name.txt',
    { headers: { 'if-unmodified-since': 'foo' } },
    { status: 200 },
  ],

  ['a range', '/numbers', range('bytes=0-4'), part('12345', 'bytes 0-4/9')],
  ['a range of one', '/numbers', range('bytes=0-0'), part('1', 'bytes 0-0/9')],
  ['a range from the middle', '/numbers', range('bytes=2-5'), part('3456', 'bytes 2-5/9')],
  ['the last ones', '/numbers', range('bytes=-3'), part('789', 'bytes 6-8/9')],
  ['from one on', '/numbers', range('bytes=3-'), part('456789', 'bytes 3-8/9')],
  ['a range that ends behind the file', '/numbers', range('bytes=2-50'), part('3456789', 'bytes 2-8/9')],
  ['a range that starts behind the file', '/numbers', range('bytes=9-50'), beyond],
  ['a range without sense', '/numbers', range('asdf'), whole],
  ['two ranges', '/numbers', range('bytes=1-1,3-'), whole],
  [
    'If-Range of this ETag',
    '/numbers',
    range('bytes=0-0', { 'if-range': String(numbers.headers.etag) }),
    part('1', 'bytes 0-0/9'),
  ],
  ['If-Range of another', '/numbers', range('bytes=0-0', { 'if-range': '"another"' }), whole],
  [
    'If-Range of this date',
    '/numbers',
    range('bytes=0-0', { 'if-range': String(numbers.headers['last-modified']) }),
    part('1', 'bytes 0-0/9'),
  ],
  ['If-Range of an earlier date', '/numbers', range('bytes=0-0', { 'if-range': minute(-1) }), whole],
  ['If-Range without sense', '/numbers', range('bytes=0-0', { 'if-range': 'foo' }), whole],
];

function assertAnswer(answer: Answer, { status, body, headers = {} }: Expected): void {
  assert.is(answer.status, status);
  if (typeof body === 'string') assert.is(answer.text, body);
  else if (body) assert.match(answer.text, body);
  for (const [name, value] of Object.entries(headers)) {
    if (value instanceof RegExp) assert.match(String(answer.headers[name]), value);
    else assert.is(answer.headers[name], value, name);
  }
}

for (const [what, path, sent, expected] of rows) {
  test(`start(), as send does: ${what}`, async () =>
    assertAnswer(await get(server.url, path, sent), expected));
}

test.run();
