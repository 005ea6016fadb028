/**
 * The npm package inbox-client, installed in an empty project and used in real browsers on pages of
 * another site: as a bundle, as modules, as a classic script and as the modules of the server.
 */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import * as chromium from '../lib/browser.js';
import {backPressure, defineClientHelpers, exchange, exchangeFrames} from '../lib/client-scenes.js';
import {ClientSite} from '../lib/client-site.js';
import * as firefox from '../lib/firefox.js';
import {Server, freePort} from '../lib/server.js';

const skip = chromium.skip || firefox.skip;
/** @typedef {{goto: (url: string) => Promise<unknown>, evaluate: (run: any, argument?: any) => Promise<any>, close: () => Promise<void>}} Page */

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
  const page = /** @type {Page} */ (browser === 'firefox' ? await fox.newPage() : await (await chrome.newContext({ignoreHTTPSErrors: true})).newPage());
  pages.push(page);
  await page.goto(url);
  await page.evaluate(defineClientHelpers);
  await until(page, () => 'client' in window);
  return page;
}

/** Waits until a function returns true in a page. @param {Page} page @param {() => boolean} isReached */
async function until(page, isReached) {
  for (const deadline = Date.now() + 60_000; !await page.evaluate(isReached);) {
    assert.ok(Date.now() < deadline, `timeout: ${isReached}`);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
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
const call = (page, name, argument) => page.evaluate(callPage, [name, argument]);

/** Runs in the page. @param {[string, any]} call */
function callPage([name, argument]) {
  return /** @type {any} */ (window)[name](argument);
}

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

for (const [callee, caller] of /** @type {const} */ ([[true, true], [true, false], [false, true]])) {
  const nameOf = (/** @type {boolean} */ core) => (core ? 'the core' : 'all parts');
  scene(`${nameOf(caller)} calls ${nameOf(callee)}: messages, and media both ways, encrypted`, async () => {
    const [bob, alice] = await Promise.all([open('chromium', 'bundle'), open('firefox', 'bundle')]);
    const scene = newScene({video: true, secret: 'a long random secret'});
    await call(bob, 'echo', {...scene, core: callee});
    await call(alice, 'dial', {...scene, core: caller});
    await alice.evaluate(exchangeFrames);
    await Promise.all([bob, alice].map(page => page.evaluate(() => /** @type {any} */ (window).frames())));
    if (caller) assert.equal(await alice.evaluate(() => /** @type {any} */ (window).call.channel.send(new Uint8Array(65_536)).catch((/** @type {any} */ {code}) => code)), 'too-large');
    await bob.close();
    assert.equal(await alice.evaluate(() => /** @type {any} */ (window).call.closed), 'remote', 'the page was closed');
  });
}

scene('the core: relays only; the relay is killed, and ICE restarts', async () => {
  const [bob, alice] = await Promise.all([open('chromium', 'bundle'), open('firefox', 'bundle')]);
  const scene = newScene({core: true, policy: 'relay'});
  await call(bob, 'echo', scene);
  await call(alice, 'dial', scene);
  assert.equal(await call(alice, 'ask', 'hello'), 'hello');
  await server.stop('SIGKILL');
  const answer = call(alice, 'ask', 'over the dead line');
  await server.start();
  assert.equal(await answer, 'over the dead line');
});

scene('media both ways, encrypted, between Firefox and Chromium', async () => {
  const [bob, alice] = await Promise.all([open('chromium', 'bundle'), open('firefox', 'server')]);
  const scene = newScene({video: true, secret: 'another secret'});
  await call(bob, 'echo', scene);
  await call(alice, 'dial', scene);
  await Promise.all([bob, alice].map(page => page.evaluate(() => /** @type {any} */ (window).frames())));
});

scene('media of the caller alone, and of the callee later', async () => {
  const [bob, alice] = await Promise.all([open('firefox', 'bundle'), open('chromium', 'script')]);
  const scene = newScene();
  await call(bob, 'echo', scene);
  await call(alice, 'dial', {...scene, video: true});
  await bob.evaluate(() => /** @type {any} */ (window).frames());
  assert.equal(await alice.evaluate(() => /** @type {any} */ (window).call.remoteStream.getTracks().length), 0);
  await bob.evaluate(async () => {
    const [track] = (await navigator.mediaDevices.getUserMedia({video: true})).getTracks();
    await /** @type {any} */ (window).call.setTrack('video', track);
  });
  await alice.evaluate(() => /** @type {any} */ (window).frames());
});

scene('a callee that comes late, leaves, and comes back', async () => {
  const [bob, alice] = await Promise.all([open('firefox', 'modules'), open('chromium', 'bundle')]);
  const scene = newScene();
  const dialed = call(alice, 'dial', scene);
  await new Promise(resolve => setTimeout(resolve, 3000));
  await call(bob, 'echo', scene);
  await dialed;
  assert.equal(await call(alice, 'ask', 'hello'), 'hello');
  await bob.evaluate(() => /** @type {any} */ (window).call.close());
  assert.equal(await alice.evaluate(() => /** @type {any} */ (window).call.closed), 'remote');
  await call(alice, 'dial', scene);
  assert.equal(await call(alice, 'ask', 'again'), 'again');
  await bob.close();
  assert.equal(await alice.evaluate(() => /** @type {any} */ (window).call.closed), 'remote', 'the page was closed');
  const again = await open('chromium', 'server');
  const dialedAgain = call(alice, 'dial', scene);
  await call(again, 'echo', scene);
  await dialedAgain;
  assert.equal(await call(alice, 'ask', 'third'), 'third');
});

scene('relays only; the server and its relay are killed, and the call recovers', async () => {
  const [bob, alice] = await Promise.all([open('chromium', 'bundle'), open('firefox', 'bundle')]);
  const scene = newScene({policy: 'relay'});
  await call(bob, 'echo', scene);
  await call(alice, 'dial', scene);
  assert.equal(await call(alice, 'ask', 'hello'), 'hello');
  await until(alice, () => /** @type {any} */ (window).call.peer.relayed);
  await server.stop('SIGKILL');
  const answer = call(alice, 'ask', 'over the dead line');
  await server.start();
  assert.equal(await answer, 'over the dead line');
});

scene('two clients that call each other get one call', async () => {
  const [bob, alice] = await Promise.all([open('chromium', 'bundle'), open('firefox', 'bundle')]);
  const scene = newScene();
  /** @type {[Page, string, string][]} */
  const sides = [[bob, 'bob', 'alice'], [alice, 'alice', 'bob']];
  const ids = await Promise.all(sides.map(([page, name, to]) => page.evaluate(async (/** @type {string[]} */ [url, name, to]) => {
    const win = /** @type {any} */ (window);
    win.call = await win.client.connect(url, to, {name, password: 'secret', ...await win.options({core: name === 'bob'})});
    win.received = win.message(win.call.channel);
    void win.call.channel.send(`from ${name}`);
    return win.call.id;
  }, [scene.url, name, to])));
  assert.equal(ids[0], ids[1]);
  assert.deepEqual(await Promise.all(sides.map(([page]) => page.evaluate(() => /** @type {any} */ (window).received))), ['from alice', 'from bob']);
});

scene('why a call is not connected', async () => {
  const [bob, alice] = await Promise.all([open('chromium', 'bundle'), open('chromium', 'bundle')]);
  const scene = newScene();
  await bob.evaluate(async (/** @type {import('../lib/client-scenes.js').Scene} */ scene) => {
    const win = /** @type {any} */ (window);
    const accept = (/** @type {string} */ from) => from === 'friend';
    win.listener = await win.client.listen(scene.url, {name: scene.name, password: 'secret', accept});
  }, scene);
  /** @param {string} to @param {object} options */
  const failure = (to, options) => alice.evaluate(async (/** @type {[string, string, any]} */ [url, to, {secret, timeout, ...options}]) => {
    const win = /** @type {any} */ (window);
    const parts = await win.options({secret});
    return win.client.connect(url, to, {...options, ...parts, ...timeout && {signal: AbortSignal.timeout(timeout)}})
      .then(() => 'connected', (/** @type {any} */ error) => error.name === 'InboxError' ? error.code : error.name);
  }, [scene.url, to, options]);
  assert.equal(await failure(scene.name, {name: 'stranger', password: 'x'}), 'declined');
  assert.equal(await failure(scene.name, {name: 'friend', password: 'x'}), 'connected');
  assert.equal(await failure(scene.name, {name: 'friend', password: 'wrong'}), 'unauthorized');
  assert.equal(await failure(scene.name, {name: 'friend2', secret: 'the callee has none'}), 'unreadable');
  assert.equal(await failure('nobody-at-all', {timeout: 500}), 'TimeoutError');
});

scene('the examples of the README run as they are', async () => {
  const examples = site.examples.map(code => code.replaceAll('https://example.org', server.origin).replaceAll(/'(alice|bob)'/g, "'$1 of the README'"));
  const names = ['bob.js', 'alice.js', 'camera.js'];
  for (const [i, name] of names.entries()) {
    site.write(name, examples[i]);
    await site.bundle(name);
  }
  /** Resolves to what the module logs, when it has run. @param {[string, string]} module its name, and the hash of the page */
  const run = ([name, hash]) => {
    /** @type {any[]} */
    const logged = [];
    console.log = (...values) => logged.push(...values);
    location.hash = hash;
    return import(`/bundle/${name}`).then(() => logged);
  };
  const [bob, alice] = await Promise.all([open('chromium', 'bundle'), open('firefox', 'bundle')]);
  await bob.evaluate(run, [names[0], '']);
  assert.deepEqual(await alice.evaluate(run, [names[1], '']), [{received: 31}]);
  const [one, two] = await Promise.all([open('chromium', 'bundle'), open('firefox', 'bundle')]);
  await bob.close();
  await Promise.all([one.evaluate(run, [names[2], '#alice']), two.evaluate(run, [names[2], ''])]);
  for (const page of [one, two]) {
    await until(page, () => Number(document.querySelector('video')?.videoWidth) > 0 && Number(document.querySelector('video')?.currentTime) > 0);
  }
});
