// What Puppeteer does for Chromium and Firefox alike.

import type { Browser, KeyInput, Page } from 'puppeteer-core';
import { until } from '../harness.ts';
import type { Driver, Started } from './engine.ts';

/** A browser that Puppeteer has started, for the tests. */
export function fromPuppeteer(browser: Browser): Started {
  return {
    open: async () => driverOf(await browser.newPage()),
    close: () => browser.close(),
  };
}

function driverOf(page: Page): Driver {
  return {
    puppeteer: page,
    run: (code) => page.evaluate(code),
    goto: async (url) => {
      await page.goto(url);
    },
    // Puppeteer's own waits in Firefox for a load, which a page of the back/forward cache never has.
    goBack: async () => {
      const url = page.url();
      await page.evaluate('void history.back()');
      await until('the page before', () =>
        page.evaluate('location.href').then(
          (now) => now !== url,
          () => false,
        ),
      );
    },
    reload: async () => {
      await page.reload();
    },
    click: (selector) => page.click(selector),
    press: (key) => page.keyboard.press(key satisfies KeyInput),
    write: (text) => page.keyboard.type(text),
    bringToFront: () => page.bringToFront(),
    screenshot: () => page.screenshot({ encoding: 'base64' }),
    close: () => page.close(),
  };
}
