// Many tabs of one site, which share one stream.

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { start } from '../../src/index.ts';
import { folder, until } from '../harness.ts';
import { engine, launch, type Page } from './engine.ts';

const HTML = (text: string) =>
  `<!doctype html><html><head><link rel=stylesheet href=/a.css></head><body><p>${text}</p></body></html>`;
const CSS = (width: number) => `p { width: ${width}px }`;
const WIDTH = 'getComputedStyle(document.querySelector("p")).width';
const TEXT = 'document.querySelector("p").textContent';

const COUNTS = [12, 50, 100];

test(`${COUNTS} tabs share one stream and show each change`, async () => {
  await using browser = await launch({ manyTabs: true });
  using site = folder({ 'index.html': HTML('old'), 'a.css': CSS(1) });
  await using server = await start({ root: site.path, port: 0, host: '127.0.0.1' });
  const one = () => until(`one stream, there are ${server.clients}`, () => server.clients === 1);
  let most = 0;
  server.server.on('request', () => {
    most = Math.max(most, server.clients);
  });
  const pages: Page[] = [];
  const open = async () => {
    const page = await browser.newPage();
    await page.goto(server.url);
    return page;
  };
  for (const count of COUNTS) {
    while (pages.length < count) pages.push(...(await Promise.all([open(), open()])));
    await one();
    site.write('a.css', CSS(count));
    for (const page of pages) await page.becomes(`${WIDTH} === '${count}px'`, 30_000);
    site.write('index.html', HTML(`${count} tabs`));
    for (const page of pages) await page.becomes(`${TEXT} === '${count} tabs'`, 30_000);
    await one();
  }
  // A tab helps itself if it waits too long for the worker: where each tab is a process, a busy machine comes to that.
  // Browsers allow six streams.
  const limit = engine === 'chromium' ? 1 : 3;
  assert.ok(most <= limit, `${most} streams`);
});

test.run();
