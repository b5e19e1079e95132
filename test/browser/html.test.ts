import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import type { Browser, Page } from 'puppeteer-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { launch } from './chromium.ts';

declare global {
  /** What the bundle of client/html.ts defines in each page and frame. */
  var merger: typeof import('../../client/html.ts');
}

const bundle = await build({
  entryPoints: [fileURLToPath(new URL('../../client/html.ts', import.meta.url))],
  bundle: true,
  write: false,
  format: 'iife',
  globalName: 'merger',
});
const script = bundle.outputFiles[0]?.text ?? '';

/** Serves the sources and files it is given; what is missing is 404. */
async function stage(browser: Browser) {
  const files = new Map<string, { type: string; body: string | Buffer }>();
  const server = createServer((req, res) => {
    const file = files.get(req.url?.replace(/\?.*/, '') ?? '');
    res.writeHead(file ? 200 : 404, {
      'content-type': file?.type ?? 'text/plain',
      'cache-control': 'no-cache',
    });
    res.end(file?.body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const pages: Page[] = [];
  return {
    files,
    origin,
    /** A page made of this source, with the module in it. */
    async open(source: string): Promise<Page> {
      files.set('/', { type: 'text/html; charset=utf-8', body: source });
      const page = await browser.newPage();
      pages.push(page);
      await page.evaluateOnNewDocument(script);
      await page.goto(origin);
      return page;
    },
    async [Symbol.asyncDispose]() {
      for (const page of pages) await page.close();
      server.closeAllConnections();
      server.close();
    },
  };
}

const merge = (page: Page, from: string, to: string) =>
  page.evaluate((a, b) => merger.mergeHtml(a, b), from, to);

/** A whole document with this body. */
const html = (body: string, head = '') =>
  `<!doctype html>\n<html lang="en">\n<head>\n<title>T</title>${head}\n</head>\n<body>\n${body}\n</body>\n</html>\n`;

const chromium = await launch();
const site = await stage(chromium.browser);
test.after(async () => {
  await site[Symbol.asyncDispose]();
  await chromium[Symbol.asyncDispose]();
});

// One row: what it is about, the old body, the new body; merged, the document is that of a fresh load.
const MERGED: readonly (readonly [name: string, from: string, to: string])[] = [
  ['a text', '<p>one</p>', '<p>two</p>'],
  ['an attribute', '<p title=a>x</p>', '<p title=b lang=de>x</p>'],
  ['an attribute that goes', '<p title=a hidden>x</p>', '<p>x</p>'],
  ['an attribute of an odd name', '<p @a=1 :b=2>x</p>', '<p @a=2 [c]=3>x</p>'],
  ['an attribute with a namespace', '<svg><use xlink:href="#a"/></svg>', '<svg><use xlink:href="#b"/></svg>'],
  ['classes', '<p class="a b">x</p>', '<p class="c a">x</p>'],
  ['an added element', '<p>one</p>', '<p>one</p>\n<p id=x>two <b>three</b></p>'],
  ['an added element in front', '<p>one</p>', '<section><h2>zero</h2></section><p>one</p>'],
  ['a first child', '<ul></ul>', '<ul><li>one</ul>'],
  ['a removed element', '<p>one</p><hr><p>two</p>', '<p>one</p><p>two</p>'],
  ['an only child that goes', '<div><p>one</p></div>', '<div></div>'],
  ['moved elements', '<p>1</p><p>2</p><p>3</p>', '<p>3</p><p>1</p><p>2</p>'],
  [
    'a wrapped element',
    '<p>1</p><form><input name=a></form>',
    '<p>1</p><div><form><input name=a></form></div>',
  ],
  ['an unwrapped element', '<div><form><input name=a></form></div>', '<form><input name=a></form>'],
  ['another element in its place', '<h2>one</h2>', '<h3>one</h3>'],
  ['comments', '<!-- a --><p>1</p>', '<p>1</p><!-- b -->'],
  [
    'an SVG',
    '<svg viewBox="0 0 1 1"><path d="M0 0"/></svg>',
    '<svg viewBox="0 0 2 2"><g><path d="M0 1"/></g></svg>',
  ],
  ['a table', '<table><tr><td>1</table>', '<table><tr><td>1<td>2<tr><td>3</table>'],
  [
    'a select',
    '<select><option>1<option>2</select>',
    '<select><option>0<option selected>1<option>2</select>',
  ],
];

for (const [name, from, to] of MERGED) {
  test(`mergeHtml() of ${name} gives what a fresh load gives`, async () => {
    const page = await site.open(html(from));
    assert.is(await merge(page, html(from), html(to)), true);
    const merged = await page.content();
    const fresh = await site.open(html(to));
    assert.is(merged, await fresh.content());
  });
}

test.run();
