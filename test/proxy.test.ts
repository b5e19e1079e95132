import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type RequestListener, request, type Server } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { type Duplex, PassThrough, type Transform } from 'node:stream';
import * as zlib from 'node:zlib';
import { brotliCompressSync, createBrotliCompress, createDeflate, createGzip, gzipSync } from 'node:zlib';
import express from 'express';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { start } from '../src/index.ts';
import { createProxy, type ProxyOptions } from '../src/proxy.ts';
import { folder, freePort, get, navigation, openStream, raw, until, within } from './harness.ts';

interface Running extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly server: Server;
}

type Upgrade = (req: IncomingMessage, socket: Duplex, head: Buffer) => void;

async function listen(server: Server, port = 0, host = '127.0.0.1'): Promise<Running> {
  server.listen(port, host);
  await once(server, 'listening');
  const { port: taken } = server.address() as AddressInfo;
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${taken}`,
    port: taken,
    server,
    [Symbol.asyncDispose]: async () => {
      server.close();
      server.closeAllConnections?.();
      if (server.listening) await once(server, 'close');
    },
  };
}

const backEnd = (answer: RequestListener, port = 0, host?: string) =>
  listen(createServer({ keepAliveTimeout: 60_000 }, answer), port, host);

/** A back end that says exactly what it is told, once the request's head is there. */
async function rawBackEnd(answer: (socket: Socket, count: number) => void) {
  const sockets: Socket[] = [];
  const server = createTcpServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    socket.on('data', () => answer(socket, sockets.length));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    sockets,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** A server with a proxy in it, as live-sse is one. */
async function front(targets: string | Record<string, string>, options: ProxyOptions = {}) {
  const proxy = createProxy(targets, options);
  const server = createServer((req, res) => {
    res.setHeader('Cross-Origin-Resource-Policy', 'same-origin');
    res.setHeader('Vary', 'Origin');
    if (!proxy.handle(req, res)) res.writeHead(404).end('not proxied');
  });
  server.on('upgrade', ((req, socket, head) => {
    if (!proxy.upgrade(req, socket, head))
      socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
  }) satisfies Upgrade);
  const running = await listen(server);
  return {
    ...running,
    proxy,
    [Symbol.asyncDispose]: async () => {
      proxy.close();
      await running[Symbol.asyncDispose]();
    },
  };
}

const echo: RequestListener = (req, res) => {
  const chunks: Buffer[] = [];
  req.on('data', (chunk: Buffer) => chunks.push(chunk));
  req.on('end', () => {
    const { method, url, headers } = req;
    res.setHeader('Content-Type', 'application/json');
    res.end(JSON.stringify({ method, url, headers, body: Buffer.concat(chunks).toString() }));
  });
};

test('createProxy() passes method, path, headers and body, and answers with all that comes back', async () => {
  await using back = await backEnd((req, res) => {
    res.setHeader('X-Back', 'yes');
    res.setHeader('Set-Cookie', ['a=1; Domain=127.0.0.1', 'b=2']);
    res.setHeader('WWW-Authenticate', ['Basic', 'Bearer']);
    res.statusCode = 299;
    res.statusMessage = 'Fine';
    echo(req, res);
  });
  await using server = await front(back.url);
  const { port } = server;
  using client = raw(
    port,
    `PUT /a%20b/?c=../d HTTP/1.1\r\nHost: localhost:${port}\r\nX-Mine: \xe9\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc`,
  );
  const answer = await client.end();
  assert.match(answer, /^HTTP\/1\.1 299 Fine\r\n/);
  assert.match(answer, /^x-back: yes\r$/m);
  assert.match(answer, /^set-cookie: a=1\r\nset-cookie: b=2\r$/m);
  assert.match(answer, /^connection: close\r$/im);
  const seen = JSON.parse(answer.slice(answer.indexOf('{'), answer.lastIndexOf('}') + 1));
  assert.equal(
    [seen.method, seen.url, seen.body, seen.headers.host, seen.headers['x-forwarded-host']],
    ['PUT', '/a%20b/?c=../d', 'abc', new URL(back.url).host, `localhost:${port}`],
  );
});

test('createProxy() goes by the longest prefix, and leaves the rest to others', async () => {
  await using a = await backEnd((req, res) => res.end(`a ${req.url}`));
  await using b = await backEnd((req, res) => res.end(`b ${req.url}`));
  await using server = await front({ '/api': `${a.url}/`, '/api/b': b.url });
  const bodies = ['/api/x', '/api/b/x', '/x', '/apix'].map(
    async (path) => (await get(server.url, path)).text,
  );
  assert.equal(await Promise.all(bodies), ['a /x', 'b /api/b/x', 'not proxied', 'not proxied']);
});

test('createProxy() knows one upstream, whatever the request says', async () => {
  let reached = 0;
  await using elsewhere = await backEnd((_req, res) => {
    reached += 1;
    res.end();
  });
  await using back = await backEnd((req, res) => res.end(`back end got ${req.url} for ${req.headers.host}`));
  await using server = await front(`${back.url}/v1`);
  const other = new URL(elsewhere.url).host;
  const targets = [elsewhere.url, `//${other}/`, `/\\${other}/`, `/..%2f..`, `/%2e%2e/x`, '*', `@${other}/`];
  for (const target of targets) {
    const answer = await get(server.url, target, { headers: { 'x-forwarded-host': other } });
    assert.ok(answer.status === 404 || answer.status === 400, `${target}: ${answer.status} ${answer.text}`);
  }
  for (const name of ['host', 'x-forwarded-host', 'x-original-url', 'forwarded']) {
    const answer = await get(server.url, '/', { headers: { [name]: other } });
    assert.is(answer.text, `back end got /v1/ for ${new URL(back.url).host}`);
  }
  assert.is(reached, 0);
});

test('createProxy() takes no TRACE', async () => {
  await using back = await backEnd(echo);
  await using server = await front(back.url);
  assert.is((await get(server.url, '/', { method: 'TRACE' })).status, 404);
});

test('createProxy() of a target that is none throws', () => {
  assert.throws(() => createProxy('localhost:3000'), /Cannot proxy to "localhost:3000"/);
  assert.throws(() => createProxy({ api: 'http://localhost' }), /Cannot proxy "api"/);
});

test('handle() passes coded bodies as they are', async () => {
  const page = '<!doctype html><title>é</title>'.repeat(1000);
  const bodies: Record<string, Buffer> = {
    gzip: gzipSync(page),
    br: brotliCompressSync(page),
    zstd: Buffer.from('28b52ffd0401190000616263', 'hex'),
  };
  await using back = await backEnd((req, res) => {
    const coding = String(req.headers['accept-encoding']);
    res.setHeader('Content-Encoding', coding).setHeader('Vary', 'Accept-Encoding');
    res.end(bodies[coding]);
  });
  await using server = await front(back.url);
  for (const [coding, body] of Object.entries(bodies)) {
    const answer = await get(server.url, '/', { headers: { 'accept-encoding': coding } });
    assert.is(answer.headers['content-encoding'], coding);
    assert.is(answer.headers.vary, 'Origin, Accept-Encoding');
    assert.ok(answer.body.equals(body), coding);
  }
});

test('handle() asks for a document without coding', async () => {
  await using back = await backEnd(echo);
  await using server = await front(back.url);
  const headers = { ...navigation, 'accept-encoding': 'gzip, br' };
  assert.is(
    JSON.parse((await get(server.url, '/', { headers })).text).headers['accept-encoding'],
    'identity',
  );
});

test('handle() undoes the coding of a document that has one all the same, part by part', async () => {
  const page = `<!doctype html><title>é</title>${randomBytes(3000).toString('hex')}`;
  const coders = { gzip: createGzip, br: createBrotliCompress, deflate: createDeflate };
  const ends: (() => void)[] = [];
  await using back = await backEnd((req, res) => {
    const coding = req.url?.slice(1) as keyof typeof coders;
    const coder = coders[coding]();
    res.setHeader('Content-Type', 'text/html; charset=utf-8').setHeader('Content-Encoding', coding);
    coder.pipe(res);
    coder.write(page);
    coder.flush();
    ends.push(() => coder.end('<p>end'));
  });
  await using server = await front(back.url);
  for (const coding of Object.keys(coders)) {
    using client = raw(
      server.port,
      `GET /${coding} HTTP/1.0\r\nHost: h\r\nAccept: text/html\r\nAccept-Encoding: gzip, br\r\n\r\n`,
    );
    await until(`all but the end of ${coding}`, () => client.received().endsWith(page));
    ends.at(-1)?.();
    const answer = await client.end();
    assert.ok(answer.endsWith(`\r\n\r\n${page}<p>end`), coding);
    assert.not.match(answer, /content-encoding/i);
  }
  using script = raw(server.port, 'GET /gzip HTTP/1.0\r\nHost: h\r\nSec-Fetch-Dest: script\r\n\r\n');
  await script.match(/^content-encoding: gzip\r$/im);
});

test('handle() of a document whose coding is broken goes on', async () => {
  await using back = await backEnd((_req, res) => {
    res.setHeader('Content-Type', 'text/html').setHeader('Content-Encoding', 'gzip');
    res.end('this is no gzip');
  });
  await using server = await front({ '/back': back.url });
  using client = raw(server.port, 'GET /back HTTP/1.1\r\nHost: h\r\nAccept: text/html\r\n\r\n');
  await client.end();
  assert.is((await get(server.url, '/')).text, 'not proxied');
});

test('handle() keeps what this server has promised of every answer', async () => {
  await using back = await backEnd((_req, res) => {
    res.setHeader('Cross-Origin-Resource-Policy', 'cross-origin');
    res.setHeader('Access-Control-Allow-Origin', '*');
    res.end();
  });
  await using server = await front(back.url);
  const { headers } = await get(server.url, '/');
  assert.is(headers['cross-origin-resource-policy'], 'same-origin');
  assert.is(headers['access-control-allow-origin'], undefined);
});

test('handle() streams: the head and each part arrive as the back end sends them', async () => {
  const parts: ((part: string) => void)[] = [];
  await using back = await backEnd((_req, res) => {
    res.setHeader('Content-Type', 'text/html');
    res.flushHeaders();
    parts.push((part) => (part ? res.write(part) : res.end()));
  });
  await using server = await front(back.url);
  using client = raw(server.port, 'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
  await client.match(/^content-type: text\/html\r$/m);
  await client.match(/\r\n\r\n$/);
  parts[0]?.('<p>one');
  await client.match(/<p>one/);
  parts[0]?.('<p>two');
  await client.match(/<p>two/);
  parts[0]?.('');
  await client.end();
});

test("handle() passes the back end's event streams on at once, and ends them when the client goes", async () => {
  const streams: import('node:http').ServerResponse[] = [];
  let closed = 0;
  await using back = await backEnd((_req, res) => {
    res.setHeader('Content-Type', 'text/event-stream');
    res.flushHeaders();
    streams.push(res);
    res.on('close', () => {
      closed += 1;
    });
  });
  await using server = await front(back.url);
  {
    using stream = await openStream(server.url);
    assert.is(stream.headers['content-type'], 'text/event-stream');
    for (let i = 0; i < 20; i++) {
      streams[0]?.write(`event: n\ndata: ${i}\n\n`);
      assert.is((await stream.next('n')).data, String(i));
    }
    assert.is(closed, 0);
  }
  await until('the stream upstream to end', () => closed === 1);
});

test('handle() has many event streams beside other requests', async () => {
  await using back = await backEnd((req, res) => {
    if (req.url === '/now') return void res.end('now');
    res.setHeader('Content-Type', 'text/event-stream');
    res.write('event: n\ndata: 1\n\n');
  });
  await using server = await front(back.url);
  const streams = await Promise.all(Array.from({ length: 100 }, () => openStream(server.url)));
  await Promise.all(streams.map((stream) => stream.next('n')));
  assert.is((await get(server.url, '/now')).text, 'now');
  for (const stream of streams) stream[Symbol.dispose]();
});

test('handle() streams an upload, and 100-continue lets it come', async () => {
  const seen = createHash('sha256');
  let size = 0;
  await using back = await backEnd((req, res) => {
    assert.is(req.headers.expect, undefined);
    req.on('data', (chunk: Buffer) => {
      seen.update(chunk);
      size += chunk.length;
    });
    req.on('end', () => res.end('got it'));
  });
  await using server = await front(back.url);
  const part = randomBytes(1 << 20);
  const sent = createHash('sha256');
  const req = request(`${server.url}/upload`, {
    method: 'POST',
    agent: false,
    headers: { 'Content-Length': 8 * part.length, Expect: '100-continue' },
  });
  const answered = once(req, 'response');
  req.flushHeaders();
  await within('100 Continue', once(req, 'continue'));
  for (let i = 0; i < 8; i++) {
    sent.update(part);
    if (!req.write(part)) await within('the upload to flow', once(req, 'drain'));
    if (i === 0) await until('the first part to arrive before the last is sent', () => size > 0);
  }
  req.end();
  const [res] = (await within('the answer', answered)) as [IncomingMessage];
  res.resume();
  assert.is(res.statusCode, 200);
  assert.is(size, 8 * part.length);
  assert.is(seen.digest('hex'), sent.digest('hex'));
});

test('handle() passes an answer that comes before the upload has ended', async () => {
  await using back = await backEnd((_req, res) => {
    res.writeHead(413, { Connection: 'close' }).end('too large');
  });
  await using server = await front(back.url);
  using client = raw(server.port, 'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nabc');
  await client.match(/^HTTP\/1\.1 413 .*too large/s);
});

const bodies: [string, string][] = [
  ['a chunked DELETE', 'DELETE / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nBODY'],
  ['a chunked GET', 'GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nBODY'],
  [
    'a chunked GET that hides it',
    'GET / HTTP/1.1\r\nHost: h\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\nBODY',
  ],
];
const smuggled = 'GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n';

for (const [name, head] of bodies) {
  test(`handle() of ${name} is one request to the back end`, async () => {
    const paths: (string | undefined)[] = [];
    await using back = await backEnd((req, res) => {
      paths.push(req.url);
      echo(req, res);
    });
    await using server = await front(back.url);
    const chunk = `${smuggled.length.toString(16)}\r\n${smuggled}\r\n0\r\n\r\n`;
    using client = raw(server.port, head.replace('BODY', chunk));
    await client.match(/"body":"GET \/smuggled/);
    assert.is((await get(server.url, '/next')).status, 200);
    assert.equal(paths, ['/', '/next']);
  });
}

test('handle() of a GET whose Connection names its Content-Length is one request to the back end', async () => {
  const paths: (string | undefined)[] = [];
  await using back = await backEnd((req, res) => {
    paths.push(req.url);
    echo(req, res);
  });
  await using server = await front(back.url);
  using client = raw(
    server.port,
    `GET / HTTP/1.1\r\nHost: h\r\nConnection: content-length\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`,
  );
  await client.match(/"body":"GET \/smuggled/);
  assert.is((await get(server.url, '/next')).status, 200);
  assert.equal(paths, ['/', '/next']);
});

test('handle() aborts upstream when the client goes before, in and after the head', async () => {
  let open = 0;
  await using back = await backEnd((req, res) => {
    open += 1;
    res.on('close', () => {
      open -= 1;
    });
    if (req.url === '/head') res.writeHead(200, { 'Content-Length': 10 }).write('abc');
    if (req.url === '/upload') req.resume();
  });
  await using server = await front(back.url);
  for (const head of ['GET /wait', 'GET /head', 'POST /upload']) {
    const client = raw(server.port, `${head} HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nab`);
    await until(`${head} to arrive`, () => open === 1);
    if (head === 'GET /head') await client.match(/abc/);
    client.socket.resetAndDestroy();
    await until(`${head} to be aborted`, () => open === 0);
  }
});

test('handle() keeps connections to the back end', async () => {
  const sockets = new Set<Socket>();
  await using back = await backEnd((req, res) => {
    sockets.add(req.socket);
    res.end();
  });
  await using server = await front(back.url);
  for (let i = 0; i < 20; i++) assert.is((await get(server.url, '/')).status, 200);
  assert.is(sockets.size, 1);
});

test('handle() asks again when an idle connection breaks as it is taken up', async () => {
  const answer = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
  const counts = new Map<Socket, number>();
  await using back = await rawBackEnd((socket) => {
    const count = (counts.get(socket) ?? 0) + 1;
    counts.set(socket, count);
    if (count === 1) socket.write(answer);
    else socket.resetAndDestroy();
  });
  await using server = await front(back.url);
  for (let i = 0; i < 5; i++) assert.is((await get(server.url, '/')).text, 'ok');
  assert.is(counts.size, 5);
  const post = await get(server.url, '/', { method: 'POST', headers: { 'content-length': '0' } });
  assert.is(post.status, 502); // what changes something is not done twice
});

test('handle() of HEAD, 204 and 304 has no body', async () => {
  await using back = await backEnd((req, res) => {
    if (req.method === 'HEAD') return void res.writeHead(200, { 'Content-Length': 1234 }).end();
    res.writeHead(Number(req.url?.slice(1)), { ETag: '"1"' }).end();
  });
  await using server = await front(back.url);
  const { port } = server;
  using client = raw(
    port,
    'HEAD / HTTP/1.1\r\nHost: h\r\n\r\nGET /204 HTTP/1.1\r\nHost: h\r\n\r\nGET /304 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n',
  );
  const answers = (await client.end()).split(/(?=HTTP\/1\.1 )/);
  assert.equal(
    answers.map((answer) => answer.slice(9, 12)),
    ['200', '204', '304'],
  );
  assert.match(answers[0] ?? '', /^content-length: 1234\r$/im);
  for (const answer of answers) assert.ok(answer.endsWith('\r\n\r\n'));
});

test('handle() of an HTTP/1.0 client ends with the connection', async () => {
  await using back = await backEnd((_req, res) => {
    res.write('a');
    res.end('b');
  });
  await using server = await front(back.url);
  using client = raw(server.port, 'GET / HTTP/1.0\r\nHost: h\r\n\r\n');
  const answer = await client.end();
  assert.not.match(answer, /chunked/i);
  assert.ok(answer.endsWith('\r\n\r\nab'));
});

test('handle() reaches a back end at an IPv6 address', async () => {
  await using back = await backEnd((req, res) => res.end(req.headers.host), 0, '::1');
  await using server = await front(back.url);
  assert.is((await get(server.url, '/')).text, new URL(back.url).host);
});

test('handle() reaches a back end on this machine by https with a certificate of its own', async () => {
  using dir = folder();
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ...['-subj', '/CN=localhost', '-keyout', dir.file('key'), '-out', dir.file('cert')],
    ],
    { stdio: 'ignore' },
  );
  const options = { key: readFileSync(dir.file('key')), cert: readFileSync(dir.file('cert')) };
  await using back = await listen(
    createHttpsServer(options, (req, res) => {
      res.setHeader('Set-Cookie', 'a=1; Secure; SameSite=None');
      res.setHeader('Location', `https://${req.headers.host}/next`);
      res.end('safe');
    }),
  );
  await using server = await front(`https://127.0.0.1:${back.port}`);
  const answer = await get(server.url, '/');
  assert.is(answer.text, 'safe');
  assert.equal(answer.headers['set-cookie'], ['a=1']);
  assert.is(answer.headers.location, '/next');
});

const rubbish: [string, string, RegExp][] = [
  ['no HTTP at all', 'hello\r\n\r\n', /^HTTP\/1\.1 502 /],
  ['nothing', '', /^HTTP\/1\.1 502 /],
  ['half a head', 'HTTP/1.1 200 OK\r\nA', /^HTTP\/1\.1 502 /],
  ['a status of 099', 'HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n', /^HTTP\/1\.1 502 /],
  ['a status of 000', 'HTTP/1.1 000 Odd\r\nContent-Length: 0\r\n\r\n', /^HTTP\/1\.1 502 /],
  ['a status of 999', 'HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n', /^HTTP\/1\.1 999 Odd\r/],
  [
    'an upgrade nobody wanted',
    'HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n',
    /^HTTP\/1\.1 502 /,
  ],
  ['early hints only', 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n', /^HTTP\/1\.1 502 /],
  [
    'a reason with control characters',
    'HTTP/1.1 200 a\x01b\x7f\r\nContent-Length: 0\r\n\r\n',
    /^HTTP\/1\.1 (?:200|502) /,
  ],
  ['a reason that is not ASCII', 'HTTP/1.1 200 \xe9\r\nContent-Length: 0\r\n\r\n', /^HTTP\/1\.1 200 /],
  [
    'a Location that is no URL',
    'HTTP/1.1 302 F\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n',
    /\r\nlocation: http:\/\/\[\r/,
  ],
  [
    'a header of control characters',
    'HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 0\r\n\r\n',
    /^HTTP\/1\.1 (?:200|502) /,
  ],
  ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab', /^HTTP\/1\.1 502 /],
  [
    'a body that is cut off',
    'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc',
    /^(?:HTTP\/1\.1 200 OK\r.*abc)?$/s,
  ],
  [
    'a chunk that is none',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
    /^HTTP\/1\.1 (?:200|502)/,
  ],
  ['a body beyond its length', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc', /\r\n\r\na$/],
  ['a body to 204', 'HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\nabc', /^HTTP\/1\.1 204 .*\r\n\r\n$/s],
  ['a gigantic head', `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`, /^HTTP\/1\.1 502 /],
];

for (const [name, text, expected] of rubbish) {
  test(`handle() of a back end that says ${name} goes on`, async () => {
    await using back = await rawBackEnd((socket) => socket.end(text, 'latin1'));
    await using server = await front({ '/back': back.url });
    using client = raw(server.port, 'GET /back HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n');
    assert.match(await client.end(), expected);
    assert.is((await get(server.url, '/')).text, 'not proxied');
  });
}

test('handle() of odd requests goes on', async () => {
  await using back = await backEnd(echo);
  await using server = await front(back.url);
  const targets = [
    '/\xff\xfe',
    '/%',
    '/a b',
    '/\x01',
    '/__proto__',
    '/?\x7f',
    '/#',
    `/${'a'.repeat(15_000)}`,
  ];
  for (const target of targets) {
    using client = raw(server.port);
    client.socket.write(
      `GET ${target} HTTP/1.1\r\n__proto__: x\r\nHost: h\r\nConnection: close\r\n\r\n`,
      'latin1',
    );
    assert.match(await client.end(), /^HTTP\/1\.1 (?:200|400|502) /, target);
  }
  assert.is((await get(server.url, '/')).status, 200);
});

test('handle() of a back end that is down answers 502 with a constant page', async () => {
  await using server = await front(`http://127.0.0.1:${await freePort()}`);
  const answer = await get(server.url, '/<b>', { headers: navigation });
  assert.is(answer.status, 502);
  assert.is(answer.headers['retry-after'], '1');
  assert.is(answer.headers['content-type'], 'text/html; charset=utf-8');
  assert.not.match(answer.text, /<b>|ECONN|127\.0\.0\.1/);
  const upload = await get(server.url, '/', { method: 'POST', headers: { 'content-length': '0' } });
  assert.is(upload.status, 502);
});

test('handle() of a back end that is down says so once, and when it is there again', async () => {
  const port = await freePort();
  const target = `http://127.0.0.1:${port}`;
  const notices: string[] = [];
  const ups: string[] = [];
  await using server = await front(`http://127.0.0.1:${port}`, {
    onNotice: (line) => notices.push(line),
    down: (req, res, name) => res.end(`${req.url} of ${name} ${res.statusCode}`),
    up: (name) => ups.push(name),
  });
  for (const path of ['/a', '/b', '/c']) {
    assert.is((await get(server.url, path)).text, `${path} of ${target} 502`);
  }
  await until('the notice', () => notices.length > 0);
  assert.equal(ups, []);
  await using _back = await backEnd((_req, res) => res.end('back'), port);
  await until('the back end to be found', () => ups.length > 0);
  assert.is((await get(server.url, '/a')).text, 'back');
  assert.equal(ups, [target]);
  assert.equal(notices, [
    `The back end ${target} cannot be reached: waiting for it`,
    `The back end ${target} is there again`,
  ]);
});

test('handle() of a back end that restarts in the middle of a request says when it is there again', async () => {
  const port = await freePort();
  const ups: string[] = [];
  await using server = await front(`http://127.0.0.1:${port}`, { up: (name) => ups.push(name) });
  {
    await using back = await backEnd((req) => {
      back.server.close();
      req.socket.destroy();
    }, port);
    assert.is((await get(server.url, '/')).status, 502);
  }
  await using _again = await backEnd((_req, res) => res.end('back'), port);
  await until('the back end to be found', () => ups.length > 0);
  assert.is((await get(server.url, '/')).text, 'back');
});

test('handle() of a back end that drops a request but lives does not call it gone', async () => {
  const heard: string[] = [];
  await using back = await backEnd((req, res) => {
    if (req.url === '/crash') req.socket.destroy();
    else res.end('alive');
  });
  await using server = await front(
    { '/crash': back.url, '/down': `http://127.0.0.1:${await freePort()}` },
    { onNotice: (line) => heard.push(line), up: (name) => heard.push(name) },
  );
  for (let i = 0; i < 3; i++) assert.is((await get(server.url, '/crash')).status, 502);
  assert.is((await get(server.url, '/down')).status, 502);
  await until('the notice about the other', () => heard.length > 0);
  assert.equal(
    heard.filter((line) => line.includes(back.url)),
    [],
  );
});

// --- WebSockets. The frames are the two ends' affair: the bytes are looked at here.

const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
const handshake = (path: string, more = '') =>
  `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${KEY}\r\nOrigin: http://localhost\r\n${more}\r\n`;

async function socketBackEnd(onUpgrade?: Upgrade) {
  const sockets: Duplex[] = [];
  const heads: IncomingMessage[] = [];
  const accept = createHash('sha1').update(`${KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  const echoes: Upgrade = (req, socket, head) => {
    socket.on('error', () => {});
    sockets.push(socket);
    heads.push(req);
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\n\r\nwelcome`,
    );
    if (head.length > 0) socket.write(head);
    socket.on('data', (chunk) => socket.write(chunk));
    socket.on('end', () => socket.end());
  };
  const running = await backEnd((_req, res) => void res.writeHead(426).end());
  running.server.on('upgrade', onUpgrade ?? echoes);
  return {
    ...running,
    sockets,
    heads,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await running[Symbol.asyncDispose]();
    },
  };
}

test('upgrade() joins a WebSocket to the back end', async () => {
  await using back = await socketBackEnd();
  await using server = await front({ '/ws': `${back.url.replace('http', 'ws')}/socket` });
  using client = raw(server.port, `${handshake('/ws/a?b', 'X-Forwarded-For: 1.2.3.4\r\n')}early`);
  await client.match(
    /^HTTP\/1\.1 101 .*\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=\r\n.*welcome/is,
  );
  await client.match(/welcome.*early/s);
  client.socket.write('later');
  await client.match(/early.*later/s);
  const [req] = back.heads;
  assert.is(req?.url, '/socket/a?b');
  assert.is(req?.headers.origin, 'http://localhost');
  assert.is(req?.headers.host, new URL(back.url).host);
  assert.is(req?.headers['x-forwarded-for'], '127.0.0.1');
  client.socket.end();
  await client.end();
});

test('upgrade() passes much in both directions', async () => {
  await using back = await socketBackEnd();
  await using server = await front(back.url);
  using client = raw(server.port, handshake('/'));
  await client.match(/welcome/);
  client.socket.write('x'.repeat(5_000_000));
  await until(
    'all to come back',
    () => client.received().endsWith('x') && client.received().length > 5_000_000,
  );
});

test('upgrade() ends one side with the other', async () => {
  await using back = await socketBackEnd();
  await using server = await front(back.url);
  const ends: [string, (client: Socket, upstream: Socket) => void][] = [
    ['the client ends', (client) => client.end()],
    ['the client breaks', (client) => client.resetAndDestroy()],
    ['the back end ends', (_client, upstream) => upstream.end()],
    ['the back end breaks', (_client, upstream) => upstream.resetAndDestroy()],
  ];
  for (const [name, end] of ends) {
    const client = raw(server.port, handshake('/'));
    await client.match(/welcome/);
    const upstream = back.sockets.at(-1) as Socket;
    end(client.socket, upstream);
    await until(`both to be closed when ${name}`, () => client.closed() && upstream.destroyed);
  }
});

test('upgrade() ends a back end that talks on when the client is gone', async () => {
  const sockets: Duplex[] = [];
  await using back = await socketBackEnd((_req, socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    socket.write('HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    const timer = setInterval(() => socket.write('more'), 5);
    socket.on('close', () => clearInterval(timer));
  });
  await using server = await front(back.url);
  const client = raw(server.port, handshake('/'));
  await client.match(/moremore/);
  client.socket.resetAndDestroy();
  await until('the back end to notice', () => sockets[0]?.destroyed);
});

test('upgrade() ends the handshake upstream when the client breaks, and with close()', async () => {
  const waiting: Duplex[] = [];
  await using back = await socketBackEnd((_req, socket) => {
    socket.on('error', () => {});
    socket.resume();
    waiting.push(socket);
  });
  await using server = await front(back.url);
  const ends: ((client: Socket) => void)[] = [
    (client) => client.resetAndDestroy(),
    () => server.proxy.close(),
  ];
  for (const end of ends) {
    using client = raw(server.port, handshake('/'));
    const count = waiting.length;
    const upstream = await until('the handshake to arrive', () => waiting[count]);
    end(client.socket);
    await until('the handshake to be aborted', () => upstream.readableEnded || upstream.destroyed);
    upstream.destroy();
  }
});

test('upgrade() passes a refusal', async () => {
  await using back = await socketBackEnd((_req, socket) => {
    socket.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno');
  });
  await using server = await front(back.url);
  using client = raw(server.port, handshake('/'));
  assert.match(await client.end(), /^HTTP\/1\.1 401 Unauthorized\r\n.*\r\n\r\nno$/s);
});

test('upgrade() of a back end that is down is 502, and waits for it', async () => {
  const port = await freePort();
  const ups: string[] = [];
  await using server = await front(`http://127.0.0.1:${port}`, { up: (name) => ups.push(name) });
  using client = raw(server.port, handshake('/'));
  assert.match(await client.end(), /^HTTP\/1\.1 502 Bad Gateway\r\n/);
  await using _back = await backEnd((_req, res) => void res.end(), port);
  await until('the back end to be found', () => ups.length > 0);
});

test('upgrade() of a back end that says rubbish goes on', async () => {
  for (const text of [
    'hello\r\n\r\n',
    '',
    'HTTP/1.1 101 Go\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na',
  ]) {
    await using back = await rawBackEnd((socket) => socket.end(text));
    await using server = await front({ '/ws': back.url });
    using client = raw(server.port, handshake('/ws'));
    await client.end();
    assert.is((await get(server.url, '/')).text, 'not proxied');
  }
});

test('upgrade() takes WebSockets of its prefixes only', async () => {
  await using back = await socketBackEnd();
  await using server = await front({ '/ws': back.url });
  for (const text of [
    handshake('/other'),
    handshake('/ws/../x'),
    handshake(`${back.url}/ws`),
    handshake('/ws').replace('websocket', 'h2c'),
    handshake('/ws').replace('GET', 'POST'),
  ]) {
    using client = raw(server.port, text);
    assert.match(await client.end(), /^HTTP\/1\.1 400 /);
  }
  assert.is(back.sockets.length, 0);
});

test('close() cuts everything, twice is once', async () => {
  await using back = await socketBackEnd();
  await using slow = await backEnd((_req, res) => void res.write('slow'));
  await using server = await front({ '/ws': back.url, '/slow': slow.url });
  using socket = raw(server.port, handshake('/ws'));
  await socket.match(/welcome/);
  using stream = raw(server.port, 'GET /slow HTTP/1.1\r\nHost: h\r\n\r\n');
  await stream.match(/slow/);
  server.proxy.close();
  server.proxy.close();
  await socket.end();
  await stream.end();
});

// --- start({ proxy })

test('start() in front of a back end that is down shows a page that says so, and reloads it when there is one', async () => {
  const port = await freePort();
  const target = `http://127.0.0.1:${port}`;
  await using server = await start({ proxy: target, watch: false, port: 0 });
  const { status, headers, text } = await get(server.url, '/a/b', { headers: navigation });
  assert.is(status, 502);
  assert.is(headers['retry-after'], '1');
  assert.match(text, /<h1>The back end is down<\/h1>/);
  assert.ok(text.includes(target), text);
  assert.is(text.match(/<script async src="\.\.\/__events\/client\.js" data-id="/g)?.length, 1);

  using stream = await openStream(`${server.url}__events`);
  await stream.next('hello');
  await using _back = await backEnd((_req, res) => res.end('back'), port);
  assert.is((await stream.next('reload')).data, '{"paths":[]}');
  assert.is((await get(server.url, '/a/b', { headers: navigation })).text, 'back');
});

type Coder = Transform & { flush(): void };
const createZstd: unknown = Reflect.get(zlib, 'createZstdCompress'); // from Node 22.15 on
const coders: Record<string, () => Coder> = {
  identity: () => Object.assign(new PassThrough(), { flush() {} }),
  gzip: createGzip,
  br: createBrotliCompress,
  ...(typeof createZstd === 'function' && { zstd: () => createZstd() as Coder }),
};

for (const [coding, create] of Object.entries(coders)) {
  test(`start() puts the client into a page of a back end as it comes, coded by ${coding}`, async () => {
    const coder = create();
    await using back = await backEnd((_req, res) => {
      res.setHeader('Content-Type', 'text/html; charset=utf-8').setHeader('Content-Encoding', coding);
      coder.pipe(res);
      coder.write('<!doctype html><title>é</title><p>first');
      coder.flush();
    });
    await using server = await start({ proxy: back.url, watch: false, port: 0 });
    using client = raw(
      server.port,
      `GET /page HTTP/1.0\r\nHost: localhost\r\nAccept: text/html\r\nAccept-Encoding: gzip, br, zstd\r\n\r\n`,
    );
    await client.match(/<p>first$/);
    coder.end('<p>last');
    const answer = await client.end();
    const tag =
      /<script async src="\.\/__events\/client\.js" data-id="[^"]+"( data-source="[^"]+")?><\/script>/g;
    assert.is(answer.match(tag)?.length, 1);
    const body = answer.slice(answer.indexOf('\r\n\r\n') + 4).replace(tag, '');
    assert.is(body, '<!doctype html><title>é</title><p>first<p>last');
    assert.not.match(answer, /^content-encoding: (?!identity)/im);
  });
}

// --- Real back ends

test('handle() in front of Express', async () => {
  const app = express();
  app.use(express.json());
  app.get('/', (_req, res) => void res.send('<!doctype html><title>Express</title>'));
  app.get('/old', (_req, res) => res.redirect('/new?a=1'));
  app.get('/login', (req, res) => {
    res.cookie('session', 'x', { domain: 'localhost', path: '/' });
    res.redirect(`${req.protocol}://${req.get('host')}/`);
  });
  app.post('/json', (req, res) => void res.json(req.body));
  await using back = await backEnd(app);
  await using server = await front({ '/': back.url, '/app': `${back.url}/` });
  const page = await get(server.url, '/', { headers: navigation });
  assert.is(page.text, '<!doctype html><title>Express</title>');
  const again = await get(server.url, '/', { headers: { 'if-none-match': String(page.headers.etag) } });
  assert.is(again.status, 304);
  assert.is((await get(server.url, '/old')).headers.location, '/new?a=1');
  assert.is((await get(server.url, '/app/old')).headers.location, '/app/new?a=1');
  const login = await get(server.url, '/login');
  assert.is(login.headers.location, '/');
  assert.equal(login.headers['set-cookie'], ['session=x; Path=/']);
  using client = raw(
    server.port,
    'POST /app/json HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 7\r\nConnection: close\r\n\r\n{"a":1}',
  );
  assert.match(await client.end(), /^HTTP\/1\.1 200 .*\{"a":1\}$/s);
});

function has(command: string): boolean {
  try {
    execFileSync(command, ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** Runs a server as a child; resolves as soon as it answers. */
async function child(command: string, args: readonly string[], url: string) {
  const running: ChildProcess = spawn(command, args, { stdio: 'ignore' });
  await until(`${command} to answer`, () =>
    get(url, '/').then(
      () => true,
      () => false,
    ),
  );
  return {
    [Symbol.asyncDispose]: async () => {
      running.kill('SIGKILL');
      if (running.exitCode === null && running.signalCode === null) await once(running, 'exit');
    },
  };
}

if (has('python3')) {
  test("handle() in front of Python's http.server", async () => {
    using dir = folder({ 'index.html': '<!doctype html><title>Python</title>', 'sub/index.html': 'sub' });
    const port = await freePort();
    const args = ['-m', 'http.server', '--bind', '127.0.0.1', '--directory', dir.path, String(port)];
    await using _python = await child('python3', args, `http://127.0.0.1:${port}`);
    await using server = await front({ '/': `http://127.0.0.1:${port}`, '/py': `http://127.0.0.1:${port}/` });
    for (let i = 0; i < 5; i++) {
      assert.is((await get(server.url, '/')).text, '<!doctype html><title>Python</title>');
    }
    assert.is((await get(server.url, '/sub')).headers.location, '/sub/');
    assert.is((await get(server.url, '/py/sub')).headers.location, '/py/sub/');
    assert.is((await get(server.url, '/none')).status, 404);
    assert.is(
      (await get(server.url, '/', { method: 'POST', headers: { 'content-length': '0' } })).status,
      501,
    );
  });
}

if (has('php')) {
  test("handle() in front of PHP's built-in server", async () => {
    using dir = folder({
      'index.php':
        '<!doctype html><title><?= $_SERVER["REQUEST_METHOD"] . file_get_contents("php://input") ?></title>',
      'go.php': '<?php header("Location: http://" . $_SERVER["HTTP_HOST"] . "/index.php");',
    });
    const port = await freePort();
    await using _php = await child(
      'php',
      ['-S', `127.0.0.1:${port}`, '-t', dir.path],
      `http://127.0.0.1:${port}`,
    );
    await using server = await front(`http://127.0.0.1:${port}`);
    assert.is((await get(server.url, '/')).text, '<!doctype html><title>GET</title>');
    assert.is((await get(server.url, '/go.php')).headers.location, '/index.php');
  });
}

test.run();
