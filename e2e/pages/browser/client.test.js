/**
 * The npm package inbox-client, installed in an empty project and used in real browsers on pages of
 * another site: as a bundle, as modules, as a classic script and as the modules of the server.
 */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import * as chromium from '../lib/browser.js';
import {backPressure, defineClientHelpers, exchange} from '../lib/client-scenes.js';
import {ClientSite} from '../lib/client-site.js';
import * as firefox from '../lib/firefox.js';
import {Server, freePort} from '../lib/server.js';

const skip = chromium.skip || firefox.skip;
/** @typedef {{evaluate: (run: any, argument?: any) => Promise<any>, close: () => Promise<void>}} Page */

/** @type {ClientSite} */
let site;
/** @type {Server} */
let server;
/** @type {chromium.Browser} */
let chrome;
/** @type {firefox.Browser} */
let fox;
/** @type {Page[]} */
let pages = [];
let count = 0;

before(async () => {
  if (skip) return;
  site = new ClientSite();
  site.install();
  await site.start();
  server = new Server(['-cors-origins', site.origin, '-turn', '127.0.0.1', '-turn-bind', `127.0.0.1:${await freePort()}`]);
  await server.start();
  [chrome, fox] = await Promise.all([chromium.launch(), firefox.launch()]);
});

after(async () => {
  await Promise.all([chrome?.close(), fox?.close()]);
  await server?.remove();
  site?.remove();
});

/**
 * Opens a page that has the client.
 * @param {'chromium'|'firefox'} browser
 * @param {import('../lib/client-site.js').Loader} loader
 * @returns {Promise<Page>}
 */
async function open(browser, loader) {
  const url = site.page(loader, server.origin);
  const page = browser === 'firefox' ? await fox.newPage() : await (await chrome.newContext({ignoreHTTPSErrors: true})).newPage();
  pages.push(page);
  await page.goto(url);
  await page.evaluate(defineClientHelpers);
  return page;
}

/** @param {string} title @param {(t: import('node:test').TestContext) => Promise<void>} run */
function scene(title, run) {
  test(title, {skip}, async t => {
    try {
      await run(t);
    } finally {
      await Promise.all(pages.map(page => page.close()));
      pages = [];
    }
  });
}

/** Returns a scene with a callee of its own. @param {Partial<import('../lib/client-scenes.js').Scene>} [options] */
const newScene = (options = {}) => ({url: `${server.origin}/inbox`, name: `callee-${++count}`, ...options});

/** Runs a function of the helpers. @param {Page} page @param {string} name @param {any} [argument] */
const call = (page, name, argument) => page.evaluate(([name, argument]) => /** @type {any} */ (window)[name](argument), [name, argument]);

for (const [callee, caller, loaders, options] of /** @type {const} */ ([
  ['chromium', 'firefox', ['bundle', 'server'], {}],
  ['firefox', 'chromium', ['modules', 'script'], {secret: 'a long random secret'}],
])) {
  scene(`${caller} (${loaders[1]}) calls ${callee} (${loaders[0]})${'secret' in options ? ', encrypted' : ''}: messages and 1 MiB both ways`, async () => {
    const [bob, alice] = await Promise.all([open(callee, loaders[0]), open(caller, loaders[1])]);
    const scene = newScene(options);
    await call(bob, 'echo', scene);
    await call(alice, 'dial', scene);
    await alice.evaluate(exchange);
    const largest = await alice.evaluate(backPressure);
    assert.ok(largest <= 1 << 20, `got ${largest} bytes in the buffer after a send`);
  });
}
