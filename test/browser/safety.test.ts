// Pages of other origins in a browser, and what they get of a running server: nothing. Then the same for an origin that is
// admitted, and the pages of our own.

import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type StartOptions, start } from '../../src/index.ts';
import { folder, until } from '../harness.ts';
import { launch, type Page } from './engine.ts';
import { front } from './front.ts';

// Names of others are this machine, as they are for an attacker whose name server says so.
const browser = await launch({ examples: true });

/** Everybody else's server: an empty page at every path. */
const elsewhere = createServer((_req, res) => {
  res.setHeader('Content-Type', 'text/html').end('<!doctype html><title>Elsewhere</title>');
}).listen(0, '127.0.0.1');
await once(elsewhere, 'listening');
const { port: otherPort } = elsewhere.address() as AddressInfo;
const sameSite = `http://127.0.0.1:${otherPort}`;
const crossSite = `http://evil.example:${otherPort}`;

const pixel = Buffer.from('R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7', 'base64');
const disk = folder({
  'index.html': '<!doctype html><title>Ours</title><p>secret',
  'data.json': '"secret"',
  'data.js': 'globalThis.stolen = "secret"; export default "secret";',
  'plain.js': 'globalThis.stolen = "secret";',
  'a.css': 'p { color: red }',
  'pixel.gif': pixel,
  'docs/page.html': '<!doctype html><p>secret',
});

test.after(async () => {
  await browser[Symbol.asyncDispose]();
  elsewhere.close();
  elsewhere.closeAllConnections();
  disk[Symbol.dispose]();
});

/** A server, and the requests that it has answered: `GET /a.css 200`. */
async function serve(options: StartOptions = {}) {
  const server = await start({ root: disk.path, port: 0, host: '127.0.0.1', ...options });
  const answered: string[] = [];
  server.server.prependListener('request', (req, res) => {
    res.on('close', () => answered.push(`${req.method} ${req.url} ${res.statusCode}`));
  });
  return { server, answered, [Symbol.asyncDispose]: () => server.close() };
}

async function open(url = 'about:blank'): Promise<Page & AsyncDisposable> {
  const page = await browser.newPage();
  await page.goto(url);
  return Object.assign(page, { [Symbol.asyncDispose]: () => page.close() });
}

/** Everything a page can do to get at a server that is not its own; gives what it has got by each. */
function steal(page: Page, base: string): Promise<Record<string, string>> {
  return page.evaluate(async (base) => {
    const patience = <T>(result: Promise<T>, ms = 20_000, given = 'no answer') =>
      Promise.race([result, new Promise<string>((resolve) => setTimeout(resolve, ms, given))]);
    const loads = (tag: string, attributes: Record<string, string>) =>
      new Promise<string>((resolve) => {
        const element = document.createElement(tag);
        for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
        element.onload = () => resolve('got');
        element.onerror = () => resolve('nothing');
        document.head.append(element);
      });
    const opens = (target: EventTarget) =>
      new Promise<string>((resolve) => {
        for (const type of ['open', 'message']) target.addEventListener(type, () => resolve('got'));
        target.addEventListener('error', () => resolve('nothing'));
      });
    const fetches = async (path: string, init?: RequestInit) => {
      try {
        const { type, body } = await fetch(base + path, init);
        if (type === 'opaque') return 'got'; // not to be read here, but let into the page's process
        const first = await body?.getReader().read();
        return first?.value ? 'got' : 'nothing';
      } catch {
        return 'nothing';
      }
    };
    const frame = document.createElement('iframe');
    frame.src = `${base}index.html`;
    const framed = new Promise<string>((resolve) => {
      frame.onload = () => resolve(frame.contentDocument ? 'got' : 'nothing');
    });
    document.body.append(frame);
    const tries: Record<string, () => Promise<string>> = {
      fetch: () => fetches('data.json'),
      'fetch of a page': () => fetches(''),
      'fetch of a listing': () => fetches('docs/'),
      'fetch without cors': () => fetches('data.json', { mode: 'no-cors' }),
      'fetch with credentials': () => fetches('data.json', { credentials: 'include' }),
      'fetch of the stream': () => fetches('__events'),
      script: () => loads('script', { src: `${base}plain.js` }),
      'client script': () => loads('script', { src: `${base}__events/client.js` }),
      module: () => loads('script', { src: `${base}data.js`, type: 'module' }),
      image: () => loads('img', { src: `${base}pixel.gif` }),
      stylesheet: () => loads('link', { href: `${base}a.css`, rel: 'stylesheet' }),
      frame: () => framed,
      EventSource: () => opens(new EventSource(`${base}__events`)),
      // WebKit waits for the end of what is no answer for a WebSocket, here of an event stream.
      WebSocket: () =>
        patience(opens(new WebSocket(`${base.replace('http', 'ws')}__events`)), 5000, 'nothing'),
    };
    const results = Object.entries(tries).map(async ([name, attempt]) => [name, await patience(attempt())]);
    return Object.fromEntries(await Promise.all(results));
  }, base);
}

const NAMES = [
  'fetch',
  'fetch of a page',
  'fetch of a listing',
  'fetch without cors',
  'fetch with credentials',
  'fetch of the stream',
  'script',
  'client script',
  'module',
  'image',
  'stylesheet',
  'frame',
  'EventSource',
  'WebSocket',
];
const each = (result: (name: string) => string) =>
  Object.fromEntries(NAMES.map((name) => [name, result(name)]));

for (const [name, origin] of [
  ['of another port', sameSite],
  ['of another site', crossSite],
] as const) {
  test(`a page ${name} gets nothing by any means`, async () => {
    await using site = await serve();
    await using page = await open(origin);
    assert.equal(
      await steal(page, site.server.url),
      each(() => 'nothing'),
    );
    assert.is(await page.evaluate('globalThis.stolen'), undefined);
    assert.ok(
      site.answered.includes('GET /plain.js 200'),
      'it was asked, and the browser kept the answer back',
    );
    assert.ok(site.answered.includes('GET /__events 403'));
  });

  test(`a form, a beacon and a write ${name} change nothing`, async () => {
    await using site = await serve();
    await using page = await open(origin);
    await page.evaluate(async (base) => {
      document.body.innerHTML = `<iframe name="target"></iframe>
        <form method="post" enctype="text/plain" action="${base}data.json" target="target"><input name="a" value="b"></form>
        <form method="post" action="${base}__events" target="target"><input name="a" value="b"></form>
        <form method="post" action="${base}__events/reload" target="target"></form>`;
      for (const form of document.forms) {
        const loaded = new Promise((resolve) => {
          (document.querySelector('iframe') ?? form).addEventListener('load', resolve, { once: true });
        });
        form.submit();
        await loaded;
      }
      navigator.sendBeacon(`${base}plain.js`, 'x');
      await fetch(`${base}a.css`, { method: 'POST', mode: 'no-cors', body: 'x' }).catch(() => {});
      await fetch(`${base}a.css`, { method: 'PUT', body: 'x' }).catch(() => {});
      await fetch(`${base}__events/css`, { method: 'POST', mode: 'no-cors' }).catch(() => {});
    }, site.server.url);
    const wanted = ['POST /data.json 405', 'POST /plain.js 405', 'POST /a.css 405', 'OPTIONS /a.css 405'];
    await until(`${wanted} in ${site.answered}`, () => wanted.every((line) => site.answered.includes(line)));
    assert.ok(site.answered.some((line) => /^POST \/__events 40[35]$/.test(line)));
    for (const type of ['reload', 'css']) assert.ok(site.answered.includes(`POST /__events/${type} 403`));
    assert.equal(
      site.answered.filter((line) => !/^GET | 40[35]$/.test(line)),
      [],
    );
  });

  test(`cors lets in a page ${name} if it is listed, and no other`, async () => {
    await using site = await serve({ cors: [origin] });
    await using page = await open(origin);
    // Cookies are never shared, a WebSocket is not there, and a frame is not its own.
    const never = ['fetch with credentials', 'WebSocket', 'frame'];
    const expected = each((name) => (never.includes(name) ? 'nothing' : 'got'));
    assert.equal(await steal(page, site.server.url), expected);
    assert.is(await page.evaluate('globalThis.stolen'), 'secret');
    await using stranger = await open(origin === sameSite ? crossSite : sameSite);
    assert.equal(
      await steal(stranger, site.server.url),
      each(() => 'nothing'),
    );
  });
}

test('a name that was turned to this machine gets nothing, also from its own page', async () => {
  await using site = await serve();
  const url = `http://rebound.example:${site.server.port}/`;
  await using page = await open();
  await page.goto(url);
  await until('the refusal', () => site.answered.includes('GET / 403'));
  assert.not.match(await page.content(), /secret|rebound/);
  const results = await page.evaluate(async () => {
    const paths = ['/', '/data.json', '/__events', '/__events/client.js', '/docs/'];
    const texts = paths.map(async (path) => (await fetch(path)).text());
    return Promise.all(texts);
  });
  for (const text of results) assert.is(text, results[0]);
  assert.not.match(results[0] ?? '', /secret/);
  assert.is(site.server.clients, 0);
  await using allowed = await serve({ allowedHosts: ['rebound.example'] });
  await page.goto(`http://rebound.example:${allowed.server.port}/`);
  assert.match(await page.content(), /secret/);
  await until('its stream', () => allowed.server.clients === 1);
});

test('a link on another site opens the page, and its stream', async () => {
  await using site = await serve();
  await using page = await open(crossSite);
  await page.evaluate((url) => location.assign(url), site.server.url);
  await until('the page', async () => /secret/.test(await page.content().catch(() => '')));
  await until('its stream', () => site.server.clients === 1);
});

for (const [name, path] of [
  ['the 404 page', 'nothing'],
  ['a listing', 'docs/'],
] as const) {
  test(`${name} runs our client, whole, and nothing else`, async () => {
    await using site = await serve();
    await using watched = await front(site.server, {
      script: `const blocked = (globalThis.blocked = []);
        addEventListener('securitypolicyviolation', (event) => blocked.push(event.effectiveDirective))`,
    });
    await using page = await open(watched.url + path);
    await until('its stream', () => site.server.clients === 1);
    site.server.error(new Error('Broken build'));
    await page.becomes('document.querySelector("live-sse-overlay")');
    assert.equal(await page.evaluate('blocked'), []);

    const sent = await page.evaluate((evil) => {
      const add = (html: string) => document.body.insertAdjacentHTML('beforeend', html);
      const script = document.createElement('script');
      script.textContent = 'globalThis.ran = "inline"';
      document.body.append(script);
      const foreign = document.createElement('script');
      foreign.src = `${evil}/x.js`;
      document.body.append(foreign);
      add('<img src="nothing.gif" onerror="globalThis.ran = \'handler\'">');
      add(
        '<iframe src="javascript:parent.ran = 1"></iframe><a id="link" href="javascript:globalThis.ran = 2">x</a>',
      );
      document.getElementById('link')?.click();
      add(`<iframe src="${evil}"></iframe><object data="${evil}"></object><base href="${evil}">`);
      add(`<form action="${evil}" id="form"></form>`);
      const form = document.getElementById('form');
      try {
        if (form instanceof HTMLFormElement) form.submit();
      } catch {} // so Firefox says that it is not allowed
      return fetch(evil, { mode: 'no-cors' }).then(
        () => 'sent',
        () => undefined,
      );
    }, crossSite);
    const directives = [
      'script-src-elem',
      'script-src-attr',
      'frame-src',
      'object-src',
      'base-uri',
      'form-action',
      'connect-src',
    ];
    await until('all to be blocked', async () => {
      const blocked = new Set(await page.evaluate(() => Reflect.get(globalThis, 'blocked')));
      return directives.every((directive) => blocked.has(directive));
    });
    assert.is(sent, undefined);
    assert.is(await page.evaluate('globalThis.ran'), undefined);
    assert.is(await page.url(), watched.url + path);
  });
}

test.run();
