// Pages in a browser, once as they are and once with the tag: nothing but the tag may differ.

import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { injectResponse } from '../../src/inject.ts';
import { except, launch, type Page } from './engine.ts';

/** Stands for the client: counts its runs where the test can see them, and tells what it knows of its tag. */
const CLIENT = `{
  const { src, dataset } = document.currentScript;
  (globalThis.runs ??= []).push([new URL(src).pathname, dataset.id, dataset.file]);
}`;
const RAN_ONCE = [['/__events/client.js', 'boot-7', '/a.html']];

interface Doc {
  readonly body: Buffer | string;
  readonly type?: string;
  readonly headers?: Record<string, string>;
}

const docs = new Map<string, Doc>();
const notices: string[] = [];

/** `/live/x` is the document x with the tag, `/plain/x` the same without. */
function serve(req: IncomingMessage, res: ServerResponse): void {
  const [, way, name = ''] = (req.url ?? '').split('/');
  // Without a charset, a page in UTF-16 would read the script as UTF-16 too.
  if (way === '__events')
    return void res.setHeader('content-type', 'text/javascript; charset=utf-8').end(CLIENT);
  const doc = docs.get(decodeURIComponent(name));
  if (!doc) return void res.writeHead(404).end();
  const stamp = { src: '/__events/client.js', id: 'boot-7', file: '/a.html' };
  if (way === 'live') injectResponse(req, res, () => stamp, { onNotice: (line) => notices.push(line) });
  res.setHeader('content-type', doc.type ?? 'text/html');
  for (const [header, value] of Object.entries(doc.headers ?? {})) res.setHeader(header, value);
  res.end(doc.body);
}

const server = createServer(serve);
const origin = () => `http://localhost:${(server.address() as AddressInfo).port}`;
const test = suite<{ page: Page }>('inject');
const browser = await launch();

test.before(async (context) => {
  await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
  context.page = await browser.newPage();
});

test.after(async () => {
  await browser[Symbol.asyncDispose]();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

interface Look {
  readonly runs: unknown;
  readonly mode: string;
  readonly encoding: string;
  readonly title: string;
  readonly nodes: readonly string[];
  readonly boxes: readonly string[];
}

/** What the page became: its nodes and where they are, without our script; and what ran. */
async function look(page: Page, way: 'live' | 'plain', name: string): Promise<Look> {
  await page.goto(`${origin()}/${way}/${encodeURIComponent(name)}`);
  return page.evaluate(() => {
    for (const script of document.querySelectorAll('script[data-id="boot-7"]')) script.remove();
    const nodes = Array.from(document.childNodes, (node) =>
      node instanceof Element
        ? node.outerHTML
        : `${node.nodeName} ${node.nodeValue} ${node instanceof DocumentType ? node.publicId : ''}`,
    );
    const boxes = Array.from(document.querySelectorAll('*'), (element) => {
      const { x, y, width, height } = element.getBoundingClientRect();
      return `${element.localName} ${x} ${y} ${width} ${height}`;
    });
    const { compatMode: mode, characterSet: encoding, title } = document;
    return { runs: Reflect.get(globalThis, 'runs') ?? [], mode, encoding, title, nodes, boxes };
  });
}

const page = (start: string, end = '') => `${start}<title>A page</title><p id="p">Some té<b>xt</b>${end}`;
const SVG = 'image/svg+xml';
const XHTML = 'application/xhtml+xml';
const NS = 'xmlns="http://www.w3.org/1999/xhtml"';

const odd: Record<string, string | Doc> = {
  'a whole page': page('<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">', '</body></html>'),
  'an empty file': '',
  'white space': ' \n ',
  'text only': 'hello & <b>goodbye</b>',
  'no html': page('<!doctype html>\n'),
  'no head': page('<!doctype html>\n<html>\n  '),
  'no body': page('<!doctype html><html><head>', '<p>more'),
  'a body only': '<!doctype html><body class="a" style="color: red"><p>text',
  'no doctype': page('<html><head>'),
  'an old doctype': page('<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01 Transitional//EN">\n<HTML><HEAD>'),
  'limited quirks': page(
    '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">',
  ),
  'upper case': '<!DOCTYPE HTML><HTML><HEAD><TITLE>A</TITLE></HEAD><BODY><P>x</BODY></HTML>',
  'a byte order mark': page('\ufeff<!doctype html><html><head>'),
  'a comment before the doctype': page('<!-- a -->\n<!doctype html><html><head>'),
  'comments everywhere': page(
    '<!--a--><!doctype html><!--b--><html><!--c--><head><!--d-->',
    '<!--e--></html><!--f-->',
  ),
  'a comment with a head': page('<!doctype html><!-- <head> --><html><!-- <head> -->'),
  'comments that end at once': page('<!doctype html><!--><!---><!----!><html><head>'),
  'bogus comments': page('<?xml version="1.0"?><!doctype html><!a><![CDATA[x]]></ x></><html><head>'),
  '> in attributes': page('<!doctype html><html data-y=\'a>b\'><head data-x="a>b">'),
  'odd attributes': page('<!doctype html><html a=b"c d=\'e\'f="g>" h= "i>" / j><head =k="l>" "m>n">'),
  'a header': page('<!doctype html><header>x</header>'),
  'two html tags': page('<!doctype html><html a=1><html b=2><head c=3><head d=4>', '<html e=5>'),
  'stray end tags': page('</p><!doctype html></div a=">"><html></b><head e=f></i>'),
  'end tags first': page('<!doctype html></head>\n'),
  '</body> first': page('<!doctype html></body>\n'),
  '</br> first': page('<!doctype html></br>\n'),
  'end tags in strings': page(
    '<!doctype html><head>',
    `<script>let a = "</head></body>"; // </html></script><template></head></body></template><p title="</body>">x<!-- </body> -->`,
  ),
  'a noscript in the head': page('<!doctype html><head><noscript><style>p{color:red}</style></noscript>'),
  'a head noscript first': page('<!doctype html><noscript><p>no</p></noscript>'),
  'a base for another site': page('<!doctype html><base href="http://localhost:1/x/">', '<a href="y">z</a>'),
  'a script first': page('<script>document.write("<p>written</p>"); document.title = "t"</script>'),
  'a style of first children': page(
    '<!doctype html><style>p:first-child, body > :nth-child(2) { margin: 50px }</style>',
  ),
  'a frameset':
    '<html><head><title>f</title></head><frameset cols="*"><frame src="about:blank"></frameset></html>',
  'plain text': '<plaintext><head></head>',
  'a NUL': '<!doctype html>\0<head>\0<p>x\0y',
  'an unclosed script': page('<!doctype html><html><head>', '<script>let a = "'),
  'an unclosed style': page('<!doctype html>', '<style>p { color: red'),
  'an unclosed title': '<!doctype html><title>x<p>y',
  'an unclosed attribute': '<!doctype html><html lang="en><head><title>x</title></head>',
  'an attribute closed late': '<!doctype html><html lang="en><meta charset="utf-8"><title>x</title><p>y',
  'an unclosed tag': '<!doctype html><html><head',
  'an unclosed textarea': page('<!doctype html>', '<textarea></head>'),
  'a long comment': page(`<!doctype html><!--${'-'.repeat(200_000)}--><head>`),
  'windows-1252': {
    body: Buffer.from(page('<!doctype html><meta charset="windows-1252">'), 'latin1'),
  },
  'windows-1252 by header': {
    body: Buffer.from(page('<!doctype html>'), 'latin1'),
    type: 'text/html; charset=windows-1252',
  },
  'a charset at the end of the first KB': {
    body: Buffer.from(
      page(`<!doctype html><head><!--${'x'.repeat(940)}--><meta charset="windows-1252">`),
      'latin1',
    ),
  },
  Shift_JIS: {
    body: Buffer.concat([
      Buffer.from('<!doctype html><html title="'),
      Buffer.from([0x83, 0x5c, 0x83, 0x7e, 0x95, 0x5c]),
      Buffer.from(page('"><head><meta charset="shift_jis">').replace('té', 'te')),
    ]),
  },
  'UTF-16 LE': { body: Buffer.from(`\ufeff${page('<!doctype html><html title="é这"><head>')}`, 'utf16le') },
  'UTF-16 BE': { body: Buffer.from(`\ufeff${page('<!doctype html><html><head>')}`, 'utf16le').swap16() },
  'UTF-16 LE by header': {
    body: Buffer.from(page('<!doctype html><html><head>'), 'utf16le'),
    type: 'text/html; charset=utf-16',
  },
  'UTF-16 LE by declaration': {
    body: Buffer.from(page('<?xml version="1.0" encoding="utf-16"?><!doctype html><head>'), 'utf16le'),
  },
  'UTF-16 BE by declaration': {
    body: Buffer.from(
      page('<?xml version="1.0" encoding="utf-16"?><!doctype html><head>'),
      'utf16le',
    ).swap16(),
  },
  XHTML: {
    type: XHTML,
    body: `<?xml version="1.0"?>\n<!-- a --><!DOCTYPE html>\n<html ${NS}>\n<head><title>x</title></head><body><p>y</p></body></html>`,
  },
  'XHTML with entities': {
    type: XHTML,
    body: `<!DOCTYPE html [ <!ENTITY a "]> '"> <!-- ' ]> --> ]><html ${NS} title="a>b"><head><title>&a;</title></head><body/></html>`,
  },
  'XHTML in UTF-16': {
    type: XHTML,
    body: Buffer.from(
      `\ufeff<html ${NS}><head><title>é</title></head><body><p>é</p></body></html>`,
      'utf16le',
    ),
  },
  SVG: {
    type: SVG,
    body: '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><title>s</title><circle r="4"/></svg>',
  },
  'SVG with a stylesheet': {
    type: SVG,
    body: '<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd"><s:svg xmlns:s="http://www.w3.org/2000/svg" width="9" height="9"><s:style>s|circle{fill:red}</s:style><s:circle r="4"/></s:svg>',
  },
};

for (const [name, doc] of Object.entries(odd)) {
  docs.set(name, typeof doc === 'string' ? { body: doc, type: 'text/html; charset=utf-8' } : doc);
  test(`${name}: nothing but the tag is new`, async ({ page }) => {
    const plain = await look(page, 'plain', name);
    const live = await look(page, 'live', name);
    assert.equal(live, { ...plain, runs: RAN_ONCE });
  });
}

// Here nothing of the page survives its mistake, so there is nothing to compare.
const broken: Record<string, Doc> = {
  'an unclosed comment': { body: '<!-- <!doctype html><html><head><title>x' },
  'an unclosed comment behind the doctype': { body: '<!doctype html><!-- <html><head><title>x' },
  'an unclosed doctype': { body: '<!doctype html' },
  'XHTML that is not well-formed': { type: XHTML, body: `<html ${NS}><head><title>x</head></html>` },
  'SVG that is not well-formed': { type: SVG, body: '<svg xmlns="http://www.w3.org/2000/svg"><circle r="4' },
};

const noScript =
  'it shows a page of its own in place of XML that is not well-formed, and runs no script there';

for (const [name, doc] of Object.entries(broken)) {
  docs.set(name, doc);
  const reasons = doc.type === undefined ? {} : { firefox: noScript };
  except(reasons, test)(`${name}: the script runs and will hear of the repair`, async ({ page }) => {
    assert.equal((await look(page, 'live', name)).runs, RAN_ONCE);
  });
}

test('a doctype is still the first thing, so the mode is kept', async ({ page }) => {
  assert.is((await look(page, 'live', 'a whole page')).mode, 'CSS1Compat');
  assert.is((await look(page, 'live', 'no doctype')).mode, 'BackCompat');
});

const inline = 'globalThis.inline = 1';
const hash = `'sha256-${createHash('sha256').update(inline).digest('base64')}'`;
const head = `<!doctype html><head><script>${inline}</script>`;
const policies: [name: string, policy: string, runs: boolean, notice?: RegExp][] = [
  ["'self'", "script-src 'self'", true],
  ['default-src', "default-src 'self'; connect-src 'none'", true],
  ['a nonce', "script-src 'nonce-abc'", true],
  ["a nonce and 'strict-dynamic'", "script-src 'nonce-abc' 'strict-dynamic' https: 'unsafe-inline'", true],
  ['a nonce for default-src', "default-src 'none'; default-src *; script-src-elem 'nonce-a+/b=='", true],
  ['two policies', "script-src 'nonce-abc' *, script-src 'nonce-abc'", true],
  ['sources without us', "script-src 'none'; script-src *", false, /allow 'self'/],
  ['a hash', `script-src ${hash}`, false, /allow 'self'/],
  ["'self' and a hash", `script-src 'self' ${hash}`, true],
  ["'strict-dynamic' and a hash", `script-src 'self' 'strict-dynamic' ${hash}`, false, /allow a nonce/],
  ['another port', 'script-src http://localhost:1', false, /allow 'self'/],
  ['any port', 'script-src http://localhost:*', true],
  ["'none'", "default-src 'none'", false, /allow 'self'/],
];

for (const [name, policy, runs, notice] of policies) {
  docs.set(`policy ${name}`, {
    body: head,
    headers: { 'content-security-policy': policy },
  });
  test(`a header's policy of ${name}: ${runs ? 'the script runs' : 'the terminal says what to allow'}`, async ({
    page,
  }) => {
    notices.length = 0;
    const live = await look(page, 'live', `policy ${name}`);
    assert.equal(live.runs, runs ? RAN_ONCE : []);
    assert.is(notices.length, runs ? 0 : 1);
    if (notice) assert.match(notices[0] ?? '', notice);
  });
}

for (const [name, policy] of policies) {
  docs.set(`meta ${name}`, {
    body: head.replace('<script>', `<meta http-equiv="content-security-policy" content="${policy}">$&`),
  });
  test(`a meta element's policy of ${name}: it comes behind the tag, and the script runs`, async ({
    page,
  }) => {
    assert.equal((await look(page, 'live', `meta ${name}`)).runs, RAN_ONCE);
    const live = await page.evaluate(() => Reflect.get(globalThis, 'inline'));
    await look(page, 'plain', `meta ${name}`);
    const plain = await page.evaluate(() => Reflect.get(globalThis, 'inline'));
    assert.is(live, plain, 'the policy holds for the page as before');
  });
}

test('the hash policies are about the inline script of the page', async ({ page }) => {
  await look(page, 'live', 'policy a hash');
  assert.is(await page.evaluate(() => Reflect.get(globalThis, 'inline')), 1);
});

test('frames carry the tag, fragments that scripts fetch never', async ({ page }) => {
  docs.set('frame', { body: '<!doctype html><p>in a frame' });
  docs.set('fragment', { body: '<!doctype html><html><head></head><p>fragment' });
  docs.set('outer', { body: '<!doctype html><iframe src="frame"></iframe>' });
  await look(page, 'live', 'outer');
  const runs = await page.evaluate(() =>
    [window, window[0]].map((frame) => Reflect.get(frame ?? {}, 'runs')),
  );
  assert.equal(runs, [RAN_ONCE, RAN_ONCE]);
  const fetched = await page.evaluate(async () => {
    const xhr = await new Promise<string>((resolve) => {
      const request = new XMLHttpRequest();
      request.open('GET', 'fragment');
      request.setRequestHeader('accept', 'text/html, application/xhtml+xml');
      request.onload = () => resolve(request.responseText);
      request.send();
    });
    const fetched = await (await fetch('fragment', { headers: { accept: 'application/xhtml+xml' } })).text();
    return [xhr, fetched];
  });
  const { body } = docs.get('fragment') ?? {};
  assert.equal(fetched, [body, body]);
});

test('a page that comes through a service worker carries the tag', async ({ page }) => {
  docs.set('worker.js', {
    type: 'text/javascript',
    body: `addEventListener('install', () => skipWaiting());
      addEventListener('activate', (event) => event.waitUntil(clients.claim()));
      addEventListener('fetch', (event) => event.respondWith(fetch(event.request)));`,
  });
  await look(page, 'live', 'a whole page');
  await page.evaluate(async () => {
    await navigator.serviceWorker.register('worker.js');
    await navigator.serviceWorker.ready;
  });
  const { runs } = await look(page, 'live', 'a whole page');
  const isControlled = await page.evaluate(async () => {
    const { controller } = navigator.serviceWorker;
    const registration = await navigator.serviceWorker.ready;
    await registration.unregister();
    return controller !== null;
  });
  assert.equal([isControlled, runs], [true, RAN_ONCE]);
});

test('a page of 20 MB carries the tag and all of its bytes', async ({ page }) => {
  const start = Buffer.from('<!doctype html><title>big</title><script type="text/plain">');
  docs.set('big', { body: Buffer.concat([start, Buffer.alloc(20_000_000, 'word ')]) });
  await page.goto(`${origin()}/live/big`);
  const length = await page.evaluate(() => document.scripts[1]?.text.length);
  assert.equal([await page.evaluate(() => Reflect.get(globalThis, 'runs')), length], [RAN_ONCE, 20_000_000]);
});

test.run();
