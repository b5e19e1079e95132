import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type Asking,
  type Cors,
  isAllowedHost,
  mayListen,
  mayWrite,
  refuseHost,
  sharingHeaders,
  strangerNotice,
} from '../src/guard.ts';

function asking(headers: Record<string, string>, rest: Partial<Asking> = {}): Asking {
  return {
    headers,
    rawHeaders: Object.entries(headers).flat(),
    secure: false,
    version: '1.1',
    fromLoopback: true,
    fromHere: true,
    ...rest,
  };
}

const hosts: [string, boolean][] = [
  ['localhost', true],
  ['localhost:8080', true],
  ['LOCALHOST:8080', true],
  ['app.localhost', true],
  ['127.0.0.1:8080', true],
  ['192.168.1.5:8080', true],
  ['[::1]:8080', true],
  ['[fe80::1]', true],
  ['mybox.local', true],
  ['MyBox.local:8080', true],
  ['a.tunnel.example', true],
  ['tunnel.example', true],
  ['', false],
  ['evil.example', false],
  ['localhost.evil.example', false],
  ['evil.example#localhost', false],
  ['evil.example/localhost', false],
  ['localhost@evil.example', false],
  ['evil.example:80@localhost', false],
  ['notlocalhost', false],
  ['x-mybox.local', false],
  ['nottunnel.example', false],
  ['127.0.0.1.evil.example', false],
  ['127.0.0.1:8080:1', false],
  ['1.2.3.256', false],
  ['[::1', false],
  ['[evil.example]', false],
  ['[1.2.3.4]', false],
  ['localhost:', false],
  ['localhost:port', false],
  [' localhost', false],
  ['localhost,evil.example', false],
  ['.localhost', false],
  ['%6cocalhost', false],
];

for (const [header, expected] of hosts) {
  test(`isAllowedHost() of ${JSON.stringify(header)} is ${expected}`, () => {
    assert.is(isAllowedHost(header, ['mybox.local', '.tunnel.example']), expected);
  });
}

test('refuseHost() names the flag that would allow a host', () => {
  assert.equal(refuseHost(asking({ host: 'evil.example:8080' }), []), {
    status: 403,
    body: 'Forbidden: this host name is not allowed. The terminal says how to allow it\n',
    notice: 'Refused a request for the host "evil.example". If it is yours, start with --allow evil.example',
  });
});

test('refuseHost() of a second Host is 400, whatever the two say', () => {
  const rawHeaders = ['Host', 'localhost', 'hOsT', 'localhost'];
  assert.is(refuseHost(asking({ host: 'localhost' }, { rawHeaders }), [])?.status, 400);
});

test('refuseHost() of a malformed Host is 400 and reflects nothing', () => {
  assert.equal(refuseHost(asking({ host: '<script>' }), []), {
    status: 400,
    body: 'Bad Request: malformed Host\n',
  });
});

test('refuseHost() without a Host lets in this machine alone, and HTTP/1.0 alone', () => {
  const old = { version: '1.0' };
  assert.is(refuseHost(asking({}, old), []), undefined);
  assert.is(refuseHost(asking({}, { ...old, fromLoopback: false }), [])?.status, 400);
  assert.is(refuseHost(asking({}), [])?.status, 400, 'HTTP/1.1 has to have one');
});

test('refuseHost() reads no forwarding header', () => {
  const headers = { host: 'evil.example', 'x-forwarded-host': 'localhost', forwarded: 'host=localhost' };
  assert.is(refuseHost(asking(headers), [])?.status, 403);
});

const own = { host: 'localhost:8080' };
const listeners: [string, Record<string, string>, Cors, boolean][] = [
  ['a program without Origin', {}, false, true],
  [
    'a page of this origin',
    { origin: 'http://localhost:8080', 'sec-fetch-site': 'same-origin' },
    false,
    true,
  ],
  ['an address typed in', { 'sec-fetch-site': 'none' }, false, true],
  ['another port', { origin: 'http://localhost:3000', 'sec-fetch-site': 'same-site' }, false, false],
  ['another site', { origin: 'http://evil.example', 'sec-fetch-site': 'cross-site' }, false, false],
  ['another site without Origin', { 'sec-fetch-site': 'cross-site' }, false, false],
  ['another scheme', { origin: 'https://localhost:8080' }, false, false],
  ['an opaque origin', { origin: 'null' }, false, false],
  ['an opaque origin under cors', { origin: 'null' }, true, false],
  [
    'a listed origin',
    { origin: 'http://localhost:3000', 'sec-fetch-site': 'same-site' },
    ['http://localhost:3000'],
    true,
  ],
  ['a look-alike of a listed origin', { origin: 'http://localhost:30001' }, ['http://localhost:3000'], false],
  ['any origin under cors', { origin: 'http://a.example', 'sec-fetch-site': 'cross-site' }, true, true],
];

for (const [name, headers, cors, expected] of listeners) {
  test(`mayListen() of ${name} is ${expected}`, () => {
    assert.is(mayListen(asking({ ...own, ...headers }), cors), expected);
  });
}

const page = { origin: 'http://localhost:8080', 'sec-fetch-site': 'same-origin' };
const writers: [string, Record<string, string>, Partial<Asking>, boolean][] = [
  ['a program of this machine', {}, {}, true],
  ['a program at an address', { host: '192.168.1.5:8080' }, {}, true],
  ['a page of this origin', page, {}, true],
  ['a page of this origin in an old browser', { origin: 'http://localhost:8080' }, {}, true],
  ['another machine', {}, { fromHere: false }, false],
  ['a page of this origin on another machine', page, { fromHere: false }, false],
  ['a page over TLS that is not', page, { secure: true }, false],
  ['another port', { origin: 'http://localhost:3000', 'sec-fetch-site': 'same-site' }, {}, false],
  ['another site', { origin: 'http://evil.example', 'sec-fetch-site': 'cross-site' }, {}, false],
  ['an opaque origin', { origin: 'null' }, {}, false],
  ['this origin from another site', { ...page, 'sec-fetch-site': 'cross-site' }, {}, false],
  ['a browser without Origin', { 'sec-fetch-site': 'same-origin' }, {}, false],
  ['an address typed in', { 'sec-fetch-site': 'none' }, {}, false],
  ['a name that is allowed, as of a tunnel', { host: 'mybox.local' }, {}, false],
  ['nobody named', { host: '' }, {}, false],
  ['somebody by way of a proxy', { 'x-forwarded-for': '203.0.113.7' }, {}, false],
  ['somebody by way of another', { via: '1.1 tunnel' }, {}, false],
];

for (const [name, headers, rest, expected] of writers) {
  test(`mayWrite() of ${name} is ${expected}`, () => {
    assert.is(mayWrite(asking({ ...own, ...headers }, rest)), expected);
  });
}

const refused = (origin: string) =>
  `Refused the client script to a page of ${origin}. If it is yours, start with --cors=${origin}`;
const strangers: [string, Record<string, string>, Cors, RegExp | string | undefined][] = [
  ['a program', {}, false, undefined],
  [
    'a page of this origin',
    { referer: 'http://localhost:8080/a', 'sec-fetch-site': 'same-origin' },
    false,
    undefined,
  ],
  ['one on an insecure origin', { referer: 'http://localhost:8080/a' }, false, undefined],
  [
    'one behind a proxy',
    { referer: 'http://front.example/', 'sec-fetch-site': 'same-origin' },
    false,
    undefined,
  ],
  [
    'another port',
    { referer: 'http://localhost:3000/', 'sec-fetch-site': 'same-site' },
    false,
    refused('http://localhost:3000'),
  ],
  [
    'another site, with Origin',
    { origin: 'http://a.example' },
    ['http://b.example'],
    refused('http://a.example'),
  ],
  ['a listed origin', { referer: 'http://a.example/' }, ['http://a.example'], undefined],
  [
    'any origin under cors',
    { referer: 'http://a.example/', 'sec-fetch-site': 'cross-site' },
    true,
    undefined,
  ],
  ['a page that hides its address', { 'sec-fetch-site': 'same-site' }, ['http://a.example'], /crossorigin/],
  ['an opaque origin', { origin: 'null', 'sec-fetch-site': 'cross-site' }, false, undefined],
  ['what is no origin', { referer: 'http://a b\u001b[31m/' }, false, undefined],
];

for (const [name, headers, cors, expected] of strangers) {
  test(`strangerNotice() of ${name}`, () => {
    const notice = strangerNotice(asking({ ...own, ...headers }), cors);
    if (expected instanceof RegExp) assert.match(notice ?? '', expected);
    else assert.is(notice, expected);
  });
}

const nosniff = { 'X-Content-Type-Options': 'nosniff' };
const closed = { ...nosniff, 'Cross-Origin-Resource-Policy': 'same-origin' };
const open = { ...nosniff, 'Cross-Origin-Resource-Policy': 'cross-origin' };
const listed = ['http://localhost:3000'];
const admitted = { ...open, 'Access-Control-Allow-Origin': 'http://localhost:3000', Vary: 'Origin' };
const shared: [string, Record<string, string>, Cors, Record<string, string>][] = [
  ['everybody without cors', { origin: 'http://localhost:3000' }, false, closed],
  ['a listed origin', { origin: 'http://localhost:3000' }, listed, admitted],
  ['a script tag on a listed origin', { referer: 'http://localhost:3000/app' }, listed, admitted],
  ['an unlisted origin', { origin: 'http://localhost:3001' }, listed, { ...closed, Vary: 'Origin' }],
  [
    'an unlisted origin with a listed referer',
    { origin: 'null', referer: 'http://localhost:3000/' },
    listed,
    { ...closed, Vary: 'Origin' },
  ],
  [
    'anybody under cors',
    { origin: 'http://a.example' },
    true,
    { ...open, 'Access-Control-Allow-Origin': '*' },
  ],
];

for (const [name, headers, cors, expected] of shared) {
  test(`sharingHeaders() for ${name}`, () => assert.equal(sharingHeaders(headers, cors), expected));
}

test.run();
