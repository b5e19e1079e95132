import type { IncomingHttpHeaders } from 'node:http';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { requestHeaders, responseHeaders, routeOf, toRoute } from '../src/backend.ts';

const bad: [string, string, string][] = [
  ['a host without a scheme', '/', 'localhost:3000'],
  ['another scheme', '/', 'ftp://localhost'],
  ['a file', '/', 'file:///etc/passwd'],
  ['nothing', '/', ''],
  ['a query', '/', 'http://localhost/?a=1'],
  ['a password', '/', 'http://me:secret@localhost/'],
  ['a prefix without a slash', 'api', 'http://localhost'],
  ['a prefix of two slashes', '//api', 'http://localhost'],
  ['a prefix with a query', '/api?a', 'http://localhost'],
];

for (const [name, prefix, target] of bad) {
  test(`toRoute() of ${name} is a RangeError`, () => {
    assert.throws(
      () => toRoute([prefix, target]),
      (error: unknown) => error instanceof RangeError && !error.message.includes('secret'),
    );
  });
}

const targets = {
  '/': 'http://all',
  '/kept': 'http://kept',
  '/kept/deeper/': 'http://deeper',
  '/root': 'http://root/',
  '/v': 'http://v/v1',
  '/slash/': 'http://slash/v1/',
};

const sorted = (of: Record<string, string>) =>
  Object.entries(of)
    .map(toRoute)
    .sort((a, b) => b.prefix.length - a.prefix.length);

const requests: [string, string | undefined][] = [
  ['/', 'all /'],
  ['/a?b=../c', 'all /a?b=../c'],
  ['/?/kept', 'all /?/kept'],
  ['/kept', 'kept /kept'],
  ['/kept?q', 'kept /kept?q'],
  ['/kept/x', 'kept /kept/x'],
  ['/keptx', 'all /keptx'],
  ['/%6bept', 'all /%6bept'],
  ['/kept/deeper', 'deeper /kept/deeper'],
  ['/kept/deeper/x', 'deeper /kept/deeper/x'],
  ['/root', 'root /'],
  ['/root/', 'root /'],
  ['/root?q', 'root /?q'],
  ['/root/x//y', 'root /x//y'],
  ['/v', 'v /v1'],
  ['/v/', 'v /v1/'],
  ['/v/x?q', 'v /v1/x?q'],
  ['/slash', 'slash /v1/'],
  ['/slash/x', 'slash /v1/x'],
  ['/a%zz', 'all /a%zz'],
  ['/a..b/...', 'all /a..b/...'],
  ['//evil/x', undefined],
  ['/\\evil/x', undefined],
  ['http://evil/x', undefined],
  ['*', undefined],
  ['', undefined],
  ['/v/../admin', undefined],
  ['/v/..', undefined],
  ['/v/%2e%2E/admin', undefined],
  ['/v/.%2e%2fadmin', undefined],
  ['/v/..%5cadmin', undefined],
  ['/v/..\\admin', undefined],
];

for (const [url, expected] of requests) {
  test(`routeOf() ${JSON.stringify(url)}`, () => {
    const found = routeOf(sorted(targets), url);
    assert.is(found && `${found.route.hostname} ${found.path}`, expected);
  });
}

test('routeOf() without a route for everything', () => {
  const routes = sorted({ '/api': 'http://back' });
  assert.is(routeOf(routes, '/'), undefined);
  assert.is(routeOf(routes, '/constructor'), undefined);
  assert.is(routeOf(routes, '/api/x')?.path, '/api/x');
});

test('toRoute() of an IPv6 address, a WebSocket scheme and the ports', () => {
  const { hostname, host, port, encrypted, target } = toRoute(['/', 'wss://[::1]/']);
  assert.equal(
    { hostname, host, port, encrypted, target },
    { hostname: '::1', host: '[::1]', port: 443, encrypted: true, target: 'https://[::1]' },
  );
});

const connection = { encrypted: false, address: '10.0.0.7', port: 8080 };
const ask = (headers: IncomingHttpHeaders, method = 'GET') =>
  requestHeaders(toRoute(['/', 'http://back:3000']), { method, headers }, connection);
const ours = {
  'x-forwarded-for': '10.0.0.7',
  'x-forwarded-proto': 'http',
  'x-forwarded-port': '8080',
  host: 'back:3000',
};

test('requestHeaders() tells the back end who asked whom', () => {
  assert.equal(ask({ host: 'localhost:8080' }), { 'x-forwarded-host': 'localhost:8080', ...ours });
});

test('requestHeaders() believes no forwarding header of the client', () => {
  const forged = {
    'x-forwarded-for': '1.2.3.4',
    'x-forwarded-host': 'evil',
    'x-forwarded-proto': 'https',
    'x-forwarded-prefix': '/evil',
    forwarded: 'for=1.2.3.4',
    'x-real-ip': '1.2.3.4',
    'x-original-url': '/admin',
    'x-rewrite-url': '/admin',
    proxy: 'evil:80',
  };
  assert.equal(ask({ ...forged, 'x-other': 'kept' }), { 'x-other': 'kept', ...ours });
});

test('requestHeaders() drops what ends at this hop, and nothing that frames the body', () => {
  const hop = {
    connection: 'keep-alive, X-Hop, Content-Length, x-forwarded-for, host',
    'keep-alive': 'timeout=5',
    'x-hop': '1',
    te: 'trailers',
    upgrade: 'h2c',
    'proxy-connection': 'keep-alive',
    'proxy-authorization': 'Basic x',
    expect: '100-continue',
  };
  assert.equal(ask({ ...hop, 'content-length': '3' }, 'DELETE'), { 'content-length': '3', ...ours });
  assert.equal(ask({ 'transfer-encoding': 'gzip, chunked' }, 'DELETE'), {
    'transfer-encoding': 'chunked',
    ...ours,
  });
});

test('requestHeaders() of a WebSocket keep its upgrade', () => {
  assert.equal(ask({ connection: 'keep-alive, Upgrade', upgrade: 'WebSocket', 'sec-websocket-key': 'k' }), {
    'sec-websocket-key': 'k',
    connection: 'Upgrade',
    upgrade: 'websocket',
    ...ours,
  });
});

const encodings: [string, IncomingHttpHeaders, string][] = [
  ['a document', { 'sec-fetch-dest': 'document' }, 'identity'],
  ['a frame', { 'sec-fetch-dest': 'iframe', accept: '*/*' }, 'identity'],
  ['a script', { 'sec-fetch-dest': 'script' }, 'gzip, br'],
  ['a fetch that accepts HTML', { 'sec-fetch-dest': 'empty', accept: 'text/html' }, 'gzip, br'],
  ['a navigation on an insecure origin', { accept: 'text/html,application/xhtml+xml' }, 'identity'],
  ['curl', { accept: '*/*' }, 'gzip, br'],
];

for (const [name, headers, expected] of encodings) {
  test(`requestHeaders() of ${name} accept ${expected}`, () => {
    assert.is(ask({ ...headers, 'accept-encoding': 'gzip, br' })['accept-encoding'], expected);
  });
}

const locations: [string, string, string, string, string][] = [
  ['the own host', '/', 'http://back:3000', 'http://back:3000/login?a#b', '/login?a#b'],
  ['the own host alone', '/', 'http://back:3000', 'http://back:3000', '/'],
  ['the own host without a scheme', '/', 'http://back:3000', '//back:3000/x', '/x'],
  ['the own host with https', '/', 'http://back:3000', 'https://back:3000/x', '/x'],
  ['the own host by another name', '/', 'http://localhost:3000', 'http://127.0.0.1:3000/x', '/x'],
  ['another port', '/', 'http://localhost:3000', 'http://localhost:3001/x', 'http://localhost:3001/x'],
  ['another host', '/', 'http://back:3000', 'http://elsewhere/x', 'http://elsewhere/x'],
  ['our own host', '/', 'http://back:3000', 'http://localhost:8080/x', 'http://localhost:8080/x'],
  ['a path', '/', 'http://back', '/login', '/login'],
  ['a path below', '/', 'http://back', 'login', 'login'],
  ['a path of two slashes', '/', 'http://back', 'http://back//evil.example/', '/.//evil.example/'],
  ['a path of a backslash', '/', 'http://back', 'http://back/\\evil.example/', '/.//evil.example/'],
  ['a path with the prefix kept', '/api', 'http://back', 'http://back/api/x', '/api/x'],
  ['a path outside the prefix kept', '/api', 'http://back', '/login', '/login'],
  ['a path, prefix replaced', '/api', 'http://back/', '/login', '/api/login'],
  ['the own host, prefix replaced', '/api', 'http://back/v1', 'http://back/v1/x', '/api/x'],
  ['the target itself', '/api', 'http://back/v1/', '/v1?a', '/api?a'],
  ['the base of everything', '/', 'http://back/v1', '/v1', '/'],
  ['a path no prefix leads to', '/api', 'http://back/v1', '/v10', '/v10'],
  ['a host no prefix leads to', '/api', 'http://back/v1', 'http://back/v2', 'http://back/v2'],
  ['what is no URL', '/', 'http://back', 'http://[', 'http://['],
  ['what looks like a host', '/', 'http://back', '//[', '//['],
];

for (const [name, prefix, target, location, expected] of locations) {
  test(`responseHeaders() with a Location of ${name}`, () => {
    const headers = responseHeaders(toRoute([prefix, target]), { location }, false);
    assert.equal(headers, [['location', expected]]);
  });
}

const cookies: [string, string, boolean, string, string][] = [
  ['a domain', 'http://back', false, 'a=1; Domain=back; Path=/; HttpOnly', 'a=1; Path=/; HttpOnly'],
  ['a domain in its value', 'http://back', false, 'a=domain=x;domain=.back', 'a=domain=x'],
  ['a path below the target', 'http://back/v1', false, 'a=1; path=/v1/x', 'a=1; Path=/api/x'],
  ['the path of the whole site', 'http://back/', false, 'a=1; Path=/', 'a=1; Path=/'],
  ['Secure where https ends', 'https://back', false, 'a=1; Secure; SameSite=None; Partitioned', 'a=1'],
  [
    'Secure and Lax where https ends',
    'https://back',
    false,
    'a=1; secure; SameSite=Lax',
    'a=1; SameSite=Lax',
  ],
  [
    'Secure where https stays',
    'https://back',
    true,
    'a=1; Secure; SameSite=None',
    'a=1; Secure; SameSite=None',
  ],
  ['Secure from http', 'http://back', false, 'a=1; Secure', 'a=1; Secure'],
  ['a name that demands Secure', 'https://back', false, '__Host-a=1; Secure', '__Host-a=1; Secure'],
];

for (const [name, target, encrypted, cookie, expected] of cookies) {
  test(`responseHeaders() with a cookie of ${name}`, () => {
    const headers = responseHeaders(toRoute(['/api', target]), { 'set-cookie': [cookie] }, encrypted);
    assert.equal(headers, [['set-cookie', [expected]]]);
  });
}

test('responseHeaders() drop what ends at this hop and what the back end may not say for our origin', () => {
  const headers = {
    connection: 'close, X-Hop',
    'keep-alive': 'timeout=5',
    'x-hop': '1',
    'transfer-encoding': 'chunked',
    trailer: 'x',
    'proxy-authenticate': 'Basic',
    'access-control-allow-origin': '*',
    'access-control-allow-credentials': 'true',
    'timing-allow-origin': '*',
    'strict-transport-security': 'max-age=9',
    'alt-svc': 'h3=":443"',
    'content-type': 'text/html',
    etag: '"1"',
  };
  assert.equal(responseHeaders(toRoute(['/', 'http://back']), headers, false), [
    ['content-type', 'text/html'],
    ['etag', '"1"'],
  ]);
});

test.run();
