// A place in the overlay, clicked in a real browser, opens the editor; a page elsewhere cannot do that.

import { chmodSync, existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { start } from '../../src/index.ts';
import { folder, until, within } from '../harness.ts';
import { launch } from './engine.ts';

test('a place in the overlay opens the editor, and no other page can', async () => {
  using home = folder({ 'site/index.html': '<!doctype html><title>Page</title><p>x', 'site/src/a.js': '' });
  const seen = home.file('called');
  const editor = home.write(
    'editor',
    `#!/bin/sh\nprintf '%s\\n' "$@" > '${seen}.part' && mv '${seen}.part' '${seen}'\n`,
  );
  chmodSync(editor, 0o755);
  process.env.LAUNCH_EDITOR = editor;
  await using server = await start({ root: home.file('site'), port: 0, host: '127.0.0.1', cors: true });
  const answered: string[] = [];
  server.server.on('request', (req, res) => {
    res.on('finish', () => answered.push(`${req.method} ${req.url} ${res.statusCode}`));
  });
  const browser = await launch();
  const elsewhere = createServer((_req, res) => res.setHeader('Content-Type', 'text/html').end('<p>x'));
  try {
    await within(
      'the other server',
      new Promise((resolve) => elsewhere.listen(0, '127.0.0.1', () => resolve(0))),
    );
    server.error({ message: 'Broken', file: 'src/a.js', line: 3, column: 7 });

    const evil = await browser.newPage();
    await evil.goto(`http://localhost:${(elsewhere.address() as AddressInfo).port}/`);
    await evil.evaluate((url) => {
      void fetch(url, { method: 'POST', mode: 'no-cors', body: '["src/a.js"]' }).catch(() => {});
      const headers = { 'Content-Type': 'application/json' };
      void fetch(url, { method: 'POST', headers, body: '["src/a.js"]' }).catch(() => {});
    }, `${server.url}__events/open`);
    const wanted = ['POST /__events/open 403', 'OPTIONS /__events/open 405'];
    await until(`${wanted}`, () => wanted.every((line) => answered.includes(line)));
    assert.not.ok(existsSync(seen));

    const page = await browser.newPage();
    await page.goto(server.url);
    await page.becomes('document.querySelector("live-sse-overlay")');
    await page.click('live-sse-overlay >>> .at button');
    await until('the editor to be called', () => existsSync(seen));
    assert.equal(readFileSync(seen, 'utf8'), `${home.file('site/src/a.js')}\n3\n7\n`);
    await until('the answer', () => answered.includes('POST /__events/open 200'));
  } finally {
    await browser[Symbol.asyncDispose]();
    elsewhere.close();
    elsewhere.closeAllConnections();
  }
});

test.run();
