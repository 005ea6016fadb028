/**
 * A call of inbox-client without media whose network is down for a while: messages that were sent
 * into the dead line arrive. The devices are network namespaces with a cable between them.
 */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import * as chromium from '../lib/browser.js';
import {defineClientHelpers} from '../lib/client-scenes.js';
import * as firefox from '../lib/firefox.js';
import {Namespace, skipNamespaces} from '../lib/namespace.js';
import {Server, freePort} from '../lib/server.js';

/** Milliseconds without a network. */
const outage = Number(process.env.CLIENT_OUTAGE ?? 10_000);

/** Runs in the page. */
async function importClient() {
  const path = '/client/1/';
  const names = ['connect', 'stream-inbox', 'channel-call', 'watched-peer'];
  Object.assign(window, {client: Object.assign({}, ...await Promise.all(names.map(name => import(`${path}${name}.js`))))});
}

test('the network of one side is down for a while', {skip: chromium.skip || firefox.skip || skipNamespaces}, async t => {
  const [home, away] = [new Namespace(), new Namespace()];
  home.connect(away, ['192.168.79.1/24', '192.168.79.2/24']);
  const server = new Server([], {host: '0.0.0.0', namespace: home.name});
  await server.start();
  const origin = server.origin.replace('localhost', '192.168.79.1');
  const port = await freePort();
  await away.forward(port); // of BiDi
  const chrome = await chromium.launch([], home.script(chromium.executablePath));
  const fox = await firefox.launch(away.script(firefox.executablePath), port);
  t.after(async () => {
    await Promise.all([chrome.close(), fox.close()]);
    await server.remove();
    home.remove();
    away.remove();
  });
  const bob = await (await chrome.newContext({ignoreHTTPSErrors: true})).newPage();
  const alice = await fox.newPage();
  for (const page of /** @type {{goto: (url: string) => Promise<unknown>, evaluate: (run: any) => Promise<any>}[]} */ ([bob, alice])) {
    await page.goto(`${origin}/robots.txt`);
    await page.evaluate(importClient);
    await page.evaluate(defineClientHelpers);
  }
  const scene = {url: `${origin}/inbox`, name: 'bob'};
  await bob.evaluate(scene => /** @type {any} */ (window).echo(scene), scene);
  await alice.evaluate(scene => /** @type {any} */ (window).dial(scene), scene);
  assert.equal(await alice.evaluate(() => /** @type {any} */ (window).ask('hello')), 'hello');
  away.setNetwork('down');
  const answer = alice.evaluate(() => Promise.race([/** @type {any} */ (window).ask('from the dead line'), /** @type {any} */ (window).call.closed]));
  await new Promise(resolve => setTimeout(resolve, outage));
  away.setNetwork('up');
  const restored = Date.now();
  assert.equal(await answer, 'from the dead line');
  t.diagnostic(`the answer comes ${Date.now() - restored} ms after the network returns`);
});
