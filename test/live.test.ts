// live() in the servers that people have, in front of the ways in which they send HTML, with an open stream.

import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { gunzipSync } from 'node:zlib';
import compression from 'compression';
import connect from 'connect';
import express from 'express';
import polka from 'polka';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Handler, type Live, live } from '../src/index.ts';
import { type Answer, type Folder, folder, get, navigation, openStream, until, within } from './harness.ts';

const HEAD = '<!doctype html><html lang="en"><head>';
const REST = `<title>Ünïcode</title></head><body>${'<p>text</p>'.repeat(500)}</body></html>`;
const PAGE = HEAD + REST;

interface Running extends AsyncDisposable {
  readonly hot: Live;
  readonly url: string;
  readonly views: Folder;
  get(path?: string, headers?: Record<string, string>): Promise<Answer>;
}

/** A server of somebody's own with live() in it, which watches a folder of views. */
async function run(build: (hot: Live, views: Folder) => RequestListener): Promise<Running> {
  const views = folder({ 'a.html': PAGE, 'a.css': 'a{}' });
  const hot = live({ watch: views.path });
  const server = createServer(build(hot, views));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  await within('the watcher', hot.ready);
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  return {
    hot,
    url,
    views,
    get: (path = '/', headers = {}) =>
      within(`the answer to ${path}`, get(url, path, { headers: { ...navigation, ...headers } })),
    [Symbol.asyncDispose]: async () => {
      server.close();
      await hot.close();
      server.closeAllConnections();
      views[Symbol.dispose]();
    },
  };
}

const withoutTag = (html: string) =>
  html.replace(
    /<script async src="\.\/__events\/client\.js" data-id="\w+-\d+"(?: data-source="[\w-]{22}")?><\/script>/,
    '',
  );

/** One tag, in its place, every other byte as it was, and a length that is right if there is one. */
function assertAlive({ status, headers, text, body }: Answer, page = PAGE): void {
  assert.is(status, 200);
  assert.is(headers['content-encoding'], undefined);
  assert.is(text.match(/__events\/client\.js/g)?.length, 1);
  assert.is(withoutTag(text), page);
  const length = headers['content-length'];
  if (length !== undefined) assert.is(Number(length), body.length);
}

/** The stream opens, through whatever is mounted, and tells of a change at once. */
async function assertTold({ hot, url, views }: Running): Promise<void> {
  using stream = await openStream(`${url}__events`, { 'accept-encoding': 'gzip, br' });
  assert.is(stream.headers['content-type'], 'text/event-stream');
  assert.is(stream.headers['content-encoding'], undefined);
  await stream.next('hello');
  assert.is(hot.clients, 1);
  views.write('b.html', 'new');
  assert.match((await stream.next('reload')).data, /^\{"paths":\["\/.*__events\/client\.js"\]\}$/);
  hot.send('note', 'own');
  assert.is((await stream.next('note')).data, 'own');
}

const asHtml = { 'Content-Type': 'text/html; charset=utf-8' };
const senders: Record<string, (req: IncomingMessage, res: ServerResponse) => void> = {
  'end()': (_req, res) => {
    res.setHeader('Content-Type', 'text/html; charset=utf-8');
    res.end(PAGE);
  },
  'writeHead() with a length': (_req, res) => {
    res.writeHead(200, { ...asHtml, 'Content-Length': Buffer.byteLength(PAGE) }).end(PAGE);
  },
  'a stream that is cut inside of a tag': (_req, res) => {
    res.writeHead(200, asHtml);
    Readable.from([PAGE.slice(0, 3), PAGE.slice(3, 34), PAGE.slice(34, 90), PAGE.slice(90)]).pipe(res);
  },
};

type Next = (error?: unknown) => void;
type Send = (req: IncomingMessage, res: ServerResponse) => void;
const apps: Record<string, (middlewares: readonly Handler[], send: Send) => RequestListener> = {
  'Express 5': (middlewares, send) => {
    const app = express();
    for (const one of middlewares) app.use((req, res, next) => void one(req, res, next));
    return app.get('/', send);
  },
  Polka: (middlewares, send) => {
    const app = polka();
    for (const one of middlewares) app.use((req, res, next) => void one(req, res, next));
    const { handler } = app.get('/', send);
    return (req, res) => void Reflect.apply(handler, app, [req, res]);
  },
  connect: (middlewares, send) => {
    const app = connect();
    for (const one of middlewares)
      app.use((req: IncomingMessage, res: ServerResponse, next: Next) => void one(req, res, next));
    return app.use(send);
  },
  'node:http': (middlewares, send) => (req, res) => {
    const step = (i: number): void => {
      const one = middlewares[i];
      if (one) one(req, res, () => step(i + 1));
      else send(req, res);
    };
    step(0);
  },
};

/** Compresses everything, however small. */
function packed(): Handler {
  const handler = compression({ threshold: 0, filter: () => true });
  return (req, res, next) => {
    Reflect.apply(handler, undefined, [req, res, next]);
  };
}

const orders: Record<string, (hot: Handler) => Handler[]> = {
  alone: (hot) => [hot],
  'ahead of compression()': (hot) => [hot, packed()],
  'behind compression()': (hot) => [packed(), hot],
};

for (const [name, build] of Object.entries(apps)) {
  for (const [order, toMiddlewares] of Object.entries(orders)) {
    test(`live() in ${name}, ${order}: each way of sending HTML, and the stream`, async () => {
      let send: Send = () => {};
      await using app = await run((hot) =>
        build(toMiddlewares(hot.middleware), (req, res) => send(req, res)),
      );
      for (const one of Object.values(senders)) {
        send = one;
        assertAlive(await app.get('/', { 'accept-encoding': 'gzip, br' }));
      }
      await assertTold(app);
      send = (_req, res) => {
        res.writeHead(200, { 'Content-Type': 'text/css' }).end('a{}');
      };
      const css = await app.get('/', { 'sec-fetch-dest': 'style', 'accept-encoding': 'gzip' });
      assert.is(order === 'alone' ? css.text : gunzipSync(css.body).toString(), 'a{}');
    });
  }
}

test('live() in Express 5: res.send(), sendFile(), static() and a router below a path', async () => {
  await using app = await run((hot, views) => {
    const server = express();
    server.use(hot.middleware);
    server.get('/send', (_req, res) => void res.send(PAGE));
    server.get('/file', (_req, res) => void res.sendFile(views.file('a.html')));
    server.use(express.static(views.path));
    return server;
  });
  for (const path of ['/send', '/file', '/a.html']) {
    const answer = await app.get(path);
    assertAlive(answer);
    // A 304 would bring back a page that was stored without the tag.
    assertAlive(await app.get(path, { 'if-none-match': '*', 'if-modified-since': new Date().toUTCString() }));
  }
  const css = await app.get('/a.css', { 'sec-fetch-dest': 'style' });
  const again = await app.get('/a.css', {
    'sec-fetch-dest': 'style',
    'if-none-match': String(css.headers.etag),
  });
  assert.equal([css.text, again.status], ['a{}', 304]);
  await assertTold(app);
});

test('live() below a mount path finds its way from every page', async () => {
  await using app = await run((hot) => {
    const server = express();
    server.use(hot.middleware);
    server.get('/deep/er/page', (_req, res) => void res.send(PAGE));
    return server;
  });
  assert.match((await app.get('/deep/er/page')).text, /src="\.\.\/\.\.\/__events\/client\.js"/);
});

test('live() shows a page while it is still being made', async () => {
  let finish = () => {};
  await using app = await run((hot) => (req, res) => {
    hot.middleware(req, res, () => {
      res.writeHead(200, asHtml);
      res.write(HEAD);
      finish = () => res.end(REST);
    });
  });
  const answer = fetch(app.url, { headers: { accept: navigation.accept } });
  const reader = (await within('the head', answer)).body?.getReader();
  const first = new TextDecoder().decode(
    (await within('the first bytes', reader?.read() ?? Promise.reject()))?.value,
  );
  assert.match(first, /^<!doctype html><html lang="en"><head><script async /);
  finish();
  let rest = '';
  for (;;) {
    const { done, value } = await within('the rest', reader?.read() ?? Promise.reject());
    if (done) break;
    rest += new TextDecoder().decode(value);
  }
  assert.is(withoutTag(first + rest), PAGE);
});

test('live() twice puts one tag in, and leaves fragments alone', async () => {
  await using other = live();
  await using app = await run((hot) => (req, res) => {
    hot.middleware(req, res, () => other.middleware(req, res, () => void senders['end()']?.(req, res)));
  });
  assertAlive(await app.get());
  assert.is((await app.get('/', { 'sec-fetch-dest': 'empty', 'sec-fetch-mode': 'cors' })).text, PAGE);
});

test('live() copies the nonce of a policy, and says what one that blocks it has to allow', async () => {
  let policy = '';
  await using app = await run((hot) => (req, res) => {
    hot.middleware(req, res, () => {
      res.writeHead(200, { ...asHtml, 'Content-Security-Policy': policy }).end(PAGE);
    });
  });
  const lines: string[] = [];
  app.hot.on('notice', (line) => lines.push(line));
  policy = "script-src 'nonce-r4nd0m'";
  assert.match(
    (await app.get()).text,
    /<script async src="[^"]+" data-id="[^"]+" data-source="[^"]+" nonce="r4nd0m"><\/script>/,
  );
  assert.equal(lines, []);
  policy = "default-src 'none'";
  await app.get('/blocked');
  assert.equal(lines, [
    `The Content-Security-Policy of "/blocked" blocks the client: allow 'self' in its script-src`,
  ]);
});

test('close() of live() ends its streams and leaves the server to its owner', async () => {
  await using app = await run((hot) => (req, res) => {
    hot.middleware(req, res, () => void senders['end()']?.(req, res));
  });
  using stream = await openStream(`${app.url}__events`);
  await stream.next('hello');
  await app.hot.close();
  await until('the stream to end', () => stream.closed());
  assert.is((await app.get()).status, 200);
});

test.run();
