import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { selfSigned } from '../../src/certificate.ts';
import { start } from '../../src/index.ts';
import { folder, until } from '../harness.ts';
import { except, launch, type Page } from './engine.ts';

const browser = await launch({ anyCertificate: true });
test.after(async () => {
  await browser[Symbol.asyncDispose]();
});

using shared = folder();
const { key, cert } = await selfSigned(['localhost', '127.0.0.1'], { folder: shared.path });

const HTML =
  '<!doctype html><html><head><link rel=stylesheet href=/a.css></head><body><p>one</p></body></html>';
const css = (width: number) => `p { width: ${width}px }`;
const WIDTH = 'getComputedStyle(document.querySelector("p")).width';

const see = (page: Page, expression: string, expected: unknown) =>
  until(`${expression} to be ${expected}`, async () => {
    return (await page.evaluate(expression).catch(() => undefined)) === expected; // between two pages
  });

for (const [name, options] of [
  ['isolate', { isolate: true }],
  ['https', { https: { key, cert } }],
  ['both', { isolate: true, https: { key, cert } }],
] as const) {
  test(`with ${name} a stylesheet is swapped, a page reloads, and all tabs share one stream`, async () => {
    using site = folder({ 'index.html': HTML, 'a.css': css(1) });
    await using server = await start({ root: site.path, port: 0, ...options });
    const context = await browser.newContext();
    const pages = [await context.newPage(), await context.newPage()];
    const problems: string[] = [];
    for (const page of pages) {
      // WebKit's driver tells nothing of the console.
      page.puppeteer?.on('console', (message) => {
        if (/error|warn/.test(message.type()) && !/favicon/.test(message.location().url ?? ''))
          problems.push(message.text());
      });
      await page.goto(server.url);
      await page.evaluate('window.stays = true');
    }
    await until('one stream', () => server.clients === 1);
    for (const page of pages) {
      assert.is(await page.evaluate('crossOriginIsolated'), 'isolate' in options);
      const protocol = await page.evaluate('performance.getEntriesByType("navigation")[0].nextHopProtocol');
      assert.is(protocol === 'h2', 'https' in options);
    }
    site.write('a.css', css(77));
    for (const page of pages) await see(page, WIDTH, '77px');
    for (const page of pages) assert.is(await page.evaluate('window.stays'), true);
    site.write('index.html', HTML.replace('one', 'two').replace('<body>', '<body><script>1</script>'));
    for (const page of pages) await see(page, 'document.querySelector("p").textContent', 'two');
    assert.equal(problems, []);
    // The worker may end with the pages and come again.
    await until('one stream of the new pages', () => server.clients === 1);
    await context.close();
  });
}

const noProcess =
  'in pages that its driver opens there is none, as no process of their own is started for them';

except({ webkit: noProcess }, test)('with isolate there is a SharedArrayBuffer', async () => {
  using site = folder({ 'index.html': HTML });
  for (const isolate of [true, false]) {
    await using server = await start({ root: site.path, port: 0, isolate });
    const page = await browser.newPage();
    await page.goto(server.url);
    assert.is(await page.evaluate('typeof SharedArrayBuffer'), isolate ? 'function' : 'undefined');
    await page.close();
  }
});

test.run();
