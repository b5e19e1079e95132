import { createServer } from 'node:http';
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from 'node:http2';
import { request } from 'node:https';
import { connect as connectSocket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { selfSigned } from '../src/certificate.ts';
import { type StartOptions, start } from '../src/index.ts';
import { folder, freePort, navigation, raw, until, within } from './harness.ts';

using shared = folder();
const { key, cert } = await selfSigned(['localhost', '127.0.0.1', '::1'], { folder: shared.path });
const page = '<!doctype html><title>Page</title>';
const big = Buffer.alloc(20_000_000, 'x');

interface Client extends Disposable {
  readonly session: ClientHttp2Session;
  ask(path: string, headers?: Record<string, string>, body?: string): Promise<H2Answer>;
  /** Opens a stream and gives what has come of it so far. */
  listen(headers?: Record<string, string>): Promise<{ received(): string; closed(): boolean }>;
}

interface H2Answer {
  readonly status: number | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

/** A client of HTTP/2 that trusts the certificate, and so finds out whether it fits. */
function client(url: string): Client {
  const session = connect(url, { ca: cert });
  session.on('error', () => {}); // shows as `closed`
  return {
    session,
    ask: (path, headers = {}, body) =>
      within(
        `the answer to ${path}`,
        new Promise((resolve, reject) => {
          const stream = session.request({ ':path': path, ...headers }, { endStream: body === undefined });
          const chunks: Buffer[] = [];
          let head: IncomingHttpHeaders & { ':status'?: number } = {};
          stream.on('response', (received) => {
            head = received;
          });
          stream.on('data', (chunk: Buffer) => chunks.push(chunk));
          stream.on('error', reject);
          stream.on('end', () =>
            resolve({ status: head[':status'], headers: head, text: Buffer.concat(chunks).toString() }),
          );
          if (body !== undefined) stream.end(body);
        }),
      ),
    listen: async (headers = {}) => {
      const stream = session.request({ ':path': '/__events', accept: 'text/event-stream', ...headers });
      let received = '';
      let closed = false;
      stream.setEncoding('utf8');
      stream.on('data', (chunk: string) => {
        received += chunk;
      });
      stream.on('error', () => {}); // shows as `closed`
      stream.on('close', () => {
        closed = true;
      });
      await until('the hello event', () => received.includes('event: hello\n'));
      return { received: () => received, closed: () => closed };
    },
    [Symbol.dispose]: () => session.destroy(),
  };
}

/** The same over HTTP/1.1 on TLS. */
function askHTTP1(
  url: string,
  headers: Record<string, string> = {},
): Promise<H2Answer & { version: string }> {
  return within(
    `the answer to ${url}`,
    new Promise((resolve, reject) => {
      const req = request(url, { ca: cert, servername: 'localhost', headers, agent: false }, (res) => {
        let text = '';
        res.setEncoding('utf8');
        res.on('data', (chunk: string) => {
          text += chunk;
        });
        res.on('end', () =>
          resolve({ status: res.statusCode, headers: res.headers, text, version: res.httpVersion }),
        );
      });
      req.on('error', reject);
      req.end();
    }),
  );
}

/** A TLS connection that speaks HTTP/1.1 as it is told. */
function secure(port: number, text: string): Disposable & { received(): string } {
  const socket = connectTls({ port, host: '127.0.0.1', servername: 'localhost', ca: cert });
  let received = '';
  socket.setEncoding('utf8');
  socket.on('data', (chunk: string) => {
    received += chunk;
  });
  socket.on('error', () => {}); // a connection that is cut
  socket.write(text);
  return { received: () => received, [Symbol.dispose]: () => socket.destroy() };
}

const serve = (root: string, options: StartOptions = {}) =>
  start({ root, port: 0, https: { key, cert }, ...options });

test('start() with https serves files, pages and scripts over HTTP/2 and HTTP/1.1', async () => {
  using site = folder({ 'index.html': page, 'a.css': 'a{}', 'big.bin': big, 'docs/index.html': page });
  await using server = await serve(site.path);
  assert.is(server.url, `https://localhost:${server.port}/`);
  using h2 = client(server.url);
  for (const ask of [
    (path: string, headers = {}) => h2.ask(path, headers),
    (path: string, headers = {}) => askHTTP1(new URL(path, server.url).href, headers),
  ]) {
    const home = await ask('/', navigation);
    assert.is(home.status, 200);
    assert.match(home.text, /^<!doctype html><script async src="\.\/__events\/client\.js" data-id="\w+-0"/);
    assert.is(Number(home.headers['content-length']), home.text.length);
    assert.is(home.headers['cross-origin-resource-policy'], 'same-origin');
    const again = await ask('/', { ...navigation, 'if-none-match': String(home.headers.etag) });
    assert.is(again.status, 304);
    assert.is((await ask('/a.css')).text, 'a{}');
    assert.is((await ask('/big.bin')).text.length, big.length);
    const range = await ask('/big.bin', { range: 'bytes=5-9' });
    assert.equal([range.status, range.text], [206, 'xxxxx']);
    assert.is((await ask('/__events/client.js')).status, 200);
    const missing = await ask('/nothing', navigation);
    assert.is(missing.status, 404);
    assert.match(missing.text, /__events\/client\.js/);
    assert.is((await ask('/docs')).headers.location, '/docs/');
  }
  assert.is((await h2.ask('/', { ':method': 'POST' })).status, 405);
  const head = await h2.ask('/', { ...navigation, ':method': 'HEAD' });
  assert.equal([head.status, head.text], [200, '']);
});

test('the event stream tells of a change over HTTP/2 and over HTTP/1.1 on TLS', async () => {
  using site = folder({ 'a.css': 'a{}' });
  await using server = await serve(site.path);
  using h2 = client(server.url);
  const stream = await h2.listen();
  using tls = secure(server.port, 'GET /__events HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await until('the stream over HTTP/1.1', () => tls.received().includes('event: hello\n'));
  assert.is(server.clients, 2);
  site.write('a.css', 'a{color:red}');
  const event = /event: css\nid: \w+-1\ndata: {"paths":\["\/a\.css"\]}\n\n/;
  await until('the event over HTTP/2', () => event.test(stream.received()));
  await until('the event over HTTP/1.1', () => event.test(tls.received()));
  h2.session.destroy();
  await until('the client of HTTP/2 to be gone', () => server.clients === 1);
});

test('one HTTP/2 connection carries more streams and requests than a browser has connections', async () => {
  using site = folder({ 'index.html': page });
  await using server = await serve(site.path);
  using h2 = client(server.url);
  const streams = await Promise.all(Array.from({ length: 30 }, () => h2.listen()));
  assert.is((await h2.ask('/', navigation)).status, 200);
  server.reload();
  for (const stream of streams) {
    await until('the event', () => stream.received().includes('event: reload\n'));
  }
});

test('the guard holds over HTTP/2: :authority is the Host, and the origin is https', async () => {
  using site = folder({ 'index.html': page });
  await using server = await serve(site.path);
  const notices: string[] = [];
  server.on('notice', (line) => notices.push(line));
  using h2 = client(server.url);
  const own = `localhost:${server.port}`;
  const rows: [headers: Record<string, string>, status: number][] = [
    [{ origin: `https://${own}` }, 200],
    [{ origin: `http://${own}` }, 403],
    [{ origin: 'https://evil.example' }, 403],
    [{ origin: 'null' }, 403],
    [{ 'sec-fetch-site': 'cross-site' }, 403],
    [{ ':authority': 'evil.example' }, 403],
    [{ ':authority': 'evil.example', host: own }, 400],
    [{ ':authority': own, host: 'evil.example' }, 400],
    [{ ':authority': own, host: own }, 200],
    [{ ':authority': `127.0.0.1:${server.port}` }, 200],
  ];
  for (const [headers, status] of rows) {
    const answer = await h2.ask('/__events', { ':method': 'HEAD', ...headers });
    assert.is(answer.status, status, JSON.stringify(headers));
  }
  assert.equal(notices, [
    'Refused a request for the host "evil.example". If it is yours, start with --allow evil.example',
  ]);
  const url = new URL('/__events', server.url).href;
  assert.is((await askHTTP1(url, { origin: `http://${own}` })).status, 403);
  assert.is((await askHTTP1(url, { host: 'evil.example' })).status, 403);
});

test('close() ends streams, sessions and half a handshake in under a second', async () => {
  using site = folder({ 'index.html': page, 'big.bin': big });
  const server = await serve(site.path, { port: await freePort() });
  using h2 = client(server.url);
  const stream = await h2.listen();
  using idle = client(server.url);
  await idle.ask('/', navigation);
  using reading = client(server.url);
  const slow = reading.session.request({ ':path': '/big.bin' });
  slow.on('error', () => {}); // it is cut
  await within('the head', new Promise((resolve) => slow.once('response', resolve)));
  using half = raw(server.port, '\x16\x03\x01');
  using kept = secure(server.port, 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHost: loc');
  await until('an answer', () => kept.received() !== '');
  await within('the end', server.close(), 1000);
  await until('all connections to be gone', () =>
    [stream.closed(), idle.session.closed, half.closed(), reading.session.closed].every(Boolean),
  );
  await using again = await serve(site.path, { port: server.port });
  assert.is(again.port, server.port);
});

test('requests that are reset, and what is no TLS, take nothing down', async () => {
  using site = folder({ 'index.html': page, 'big.bin': big });
  await using server = await serve(site.path);
  const errors: Error[] = [];
  server.on('error', (error) => errors.push(error));
  using h2 = client(server.url);
  for (const path of ['/', '/big.bin', '/__events', '/nothing', '/__events/client.js']) {
    for (let i = 0; i < 40; i++) {
      const stream = h2.session.request({ ':path': path, ...navigation });
      stream.on('error', () => {}); // we reset it
      if (i % 2) stream.close(8);
      else stream.once('response', () => stream.close(8));
    }
    assert.is((await h2.ask('/', navigation)).status, 200);
  }
  using plain = raw(server.port, 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await plain.end();
  const cut = connectSocket(server.port, '127.0.0.1');
  cut.on('connect', () => cut.resetAndDestroy());
  using odd = client(server.url);
  for (const path of ['*', '//[', '/%zz', '/%00', `/${'a'.repeat(20_000)}`]) {
    await odd.ask(path).catch(() => {}); // any answer, or a stream that is refused
  }
  await odd.ask('/', { ':method': 'TRACE' });
  assert.is((await h2.ask('/', navigation)).status, 200);
  await until('the streams to be gone', () => server.clients === 0);
  assert.equal(errors, []);
});

test('middleware and a back end see requests of HTTP/2 as they know them', async () => {
  using site = folder({ 'index.html': page });
  const seen: string[] = [];
  const back = createServer((req, res) => {
    let body = '';
    req.on('data', (chunk) => {
      body += chunk;
    });
    req.on('end', () => {
      const headers = Object.keys(req.headers).filter((name) => name.startsWith(':'));
      seen.push(`${req.method} ${req.url} ${body} ${headers} ${req.headers['x-forwarded-proto']}`);
      res.writeHead(200, { 'Content-Type': 'text/html', 'Keep-Alive': 'timeout=9' });
      res.write('<!doctype html>');
      res.end('<title>Back</title>');
    });
  }).listen(0, '127.0.0.1');
  await within('the back end to listen', new Promise((resolve) => back.once('listening', resolve)));
  const { port } = back.address() as { port: number };
  try {
    await using server = await serve(site.path, {
      proxy: { '/api': `http://127.0.0.1:${port}` },
      middleware: [
        (req, res, next) => {
          if (req.url !== '/made') return next();
          res.writeHead(200, { 'Content-Type': 'text/html' });
          res.write('<!doctype html>');
          res.end(`<title>${req.headers.host}</title>`);
        },
      ],
    });
    using h2 = client(server.url);
    const made = await h2.ask('/made', navigation);
    assert.match(made.text, /^<!doctype html><script async src="\.\/__events\/client\.js"/);
    assert.match(made.text, new RegExp(`<title>localhost:${server.port}</title>$`));
    assert.match(
      (await h2.ask('/api/page', navigation)).text,
      /^<!doctype html><script.*<title>Back<\/title>$/,
    );
    await h2.ask('/api/a', { ':method': 'POST' }, 'one');
    await h2.ask('/api/b', { ':method': 'DELETE' }, 'two');
    await h2.ask('/api/c', { ':method': 'DELETE' });
    assert.equal(seen, [
      'GET /api/page   https',
      'POST /api/a one  https',
      'DELETE /api/b two  https',
      'DELETE /api/c   https',
    ]);
  } finally {
    back.closeAllConnections();
    back.close();
  }
});

test('the files of https are never served, by whatever name', async () => {
  using site = folder({ 'index.html': page, 'key.txt': key, 'tls/cert.txt': cert, 'other.txt': 'public' });
  await using server = await start({
    root: site.path,
    port: 0,
    https: { key: site.file('key.txt'), cert: site.file('tls/cert.txt') },
    mounts: { '/more': site.file('tls') },
  });
  using h2 = client(server.url);
  for (const path of ['/key.txt', '/key', '/key%2Etxt', '/tls/cert.txt', '/more/cert.txt']) {
    const rows: Record<string, string>[] = [{}, navigation, { range: 'bytes=0-9' }];
    for (const headers of rows) {
      const { status, text } = await h2.ask(path, headers);
      assert.is(status, 404, path);
      assert.not.match(text, /BEGIN/);
    }
  }
  assert.not.match((await h2.ask('/tls/', navigation)).text, /cert\.txt"/);
  assert.is((await h2.ask('/other.txt')).text, 'public');
});

test('start() with wrong https is refused in one line and leaves nothing behind', async () => {
  using site = folder({ 'key.pem': key });
  const rows: [https: unknown, expected: RegExp][] = [
    [{ key, cert: site.file('no.pem') }, /^Cannot read the certificate ".*no\.pem": there is no such file/],
    [{ key }, /^The option https takes { key, cert }, each as PEM or as the path of a file, or true$/],
    ['yes', /^The option https takes /],
  ];
  for (const [https, expected] of rows) {
    const error = await start({ root: site.path, port: 0, https: https as true }).then(
      () => undefined,
      (reason: Error) => reason,
    );
    assert.match(error?.message ?? 'it started', expected);
  }
});

test('isolate puts its headers on every response, the stream’s and refusals too', async () => {
  using site = folder({ 'index.html': page, 'a.css': 'a{}' });
  await using server = await serve(site.path, { isolate: true, middleware: [(_req, _res, next) => next()] });
  using h2 = client(server.url);
  const etag = String((await h2.ask('/a.css')).headers.etag);
  const rows: [path: string, status: number, headers?: Record<string, string>][] = [
    ['/', 200, navigation],
    ['/a.css', 304, { 'if-none-match': etag }],
    ['/nothing', 404],
    ['/%zz', 400],
    ['/__events', 200, { ':method': 'HEAD' }],
    ['/__events', 403, { origin: 'null' }],
    ['/__events/client.js', 200],
    ['/__events/worker.js', 200],
    ['/', 403, { ':authority': 'evil.example' }],
  ];
  for (const [path, status, headers = {}] of rows) {
    const answer = await h2.ask(path, headers);
    assert.is(answer.status, status, path);
    assert.is(answer.headers['cross-origin-opener-policy'], 'same-origin', path);
    assert.is(answer.headers['cross-origin-embedder-policy'], 'require-corp', path);
  }
});

test.run();
