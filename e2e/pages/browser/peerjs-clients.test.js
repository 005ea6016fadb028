/**
 * Real clients of PeerJS, on a page of another site, with -compat peerjs: what docs/peerjs.md
 * promises. PEERJS_ROUNDS repeats the scenes, over http and https, with mailboxes in memory and in
 * Redis.
 */

import assert from 'node:assert/strict';
import {spawn} from 'node:child_process';
import {once} from 'node:events';
import {readFileSync} from 'node:fs';
import {createServer} from 'node:http';
import {connect} from 'node:net';
import {test} from 'node:test';
import {setTimeout as delay} from 'node:timers/promises';
import * as chromium from '../lib/browser.js';
import * as firefox from '../lib/firefox.js';
import {defineHelpers, scenes} from '../lib/peerjs-scenes.js';
import {freePort, Server} from '../lib/server.js';
import {StallingProxy} from '../lib/stalling-proxy.js';

const rounds = Number(process.env.PEERJS_ROUNDS ?? 0);
const library = readFileSync(new URL('../node_modules/peerjs/dist/peerjs.min.js', import.meta.url));

/** A site of its own, whose page has the library. */
class Site {
  #server = createServer((request, response) => {
    if (request.url === '/stall') this.onStall();
    const script = request.url === '/peerjs.js';
    response.setHeader('Content-Type', script ? 'text/javascript' : 'text/html');
    response.end(script ? library : '<!doctype html><title>another site</title><link rel="icon" href="data:,"><script src="/peerjs.js"></script>');
  });
  onStall = () => {};

  async start() {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    const address = this.#server.address();
    assert.ok(address && typeof address === 'object');
    return `http://localhost:${address.port}`;
  }

  stop() {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

/** Runs a Redis on a free port. */
class Redis {
  /** @type {import('node:child_process').ChildProcess | undefined} */
  #process;
  port = 0;

  async start() {
    this.port = await freePort();
    this.#process = spawn('redis-server', ['--port', `${this.port}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'], {stdio: 'ignore'});
    for (let i = 0; i < 300; i++) {
      const socket = connect(this.port, '127.0.0.1');
      const outcome = await Promise.race([once(socket, 'connect').then(() => true), once(socket, 'error').then(() => false, () => false)]).catch(() => false);
      socket.destroy();
      if (outcome) return;
      await delay(100);
    }
    throw new Error('Redis does not start');
  }

  stop() {
    this.#process?.kill('SIGKILL');
  }
}

/** Runs in the page: opens a callee that echoes, whose server will crash. @param {object} peers */
async function openCallee(peers) {
  const win = /** @type {any} */ (window);
  win.callee = await win.open(win.unique(), peers);
  win.echo(win.callee);
  win.disconnected = new Promise(resolve => win.callee.once('disconnected', resolve));
  return win.callee.id;
}

/** Runs in the page: calls from another server, while that of the callee does not run. @param {{callee: string, peers: object}} places */
async function callAbsent({callee, peers}) {
  const win = /** @type {any} */ (window);
  await win.disconnected;
  win.caller = await win.open(undefined, peers);
  win.answered = win.ask(win.caller.connect(callee), 'hello');
  await new Promise(resolve => setTimeout(resolve, 500)); // until the offer is sent
}

/** Runs in the page: the callee comes back and is called. */
async function comeBack() {
  const {callee, caller, until, answered} = /** @type {any} */ (window);
  const opened = until(callee, 'open');
  callee.reconnect();
  await opened;
  if (await answered !== 'hello') throw new Error('no echo');
  callee.destroy();
  caller.destroy();
}

/**
 * Runs scenes in a page of a browser.
 * @param {(url: string) => Promise<{evaluate: (run: any, argument?: any) => Promise<any>, close: () => Promise<void>}>} open
 * @param {{tls: boolean, redis: boolean, path: string}} variant
 * @param {string[]} names
 * @param {import('node:test').TestContext} t
 */
async function runScenes(open, variant, names, t) {
  const redis = new Redis(), site = new Site();
  const origin = await site.start();
  const flags = ['-compat', 'peerjs', '-cors-origins', origin, '-turn', 'off'];
  if (!variant.tls) flags.push('-https=false');
  if (variant.redis) {
    await redis.start();
    flags.push('-store', `redis://127.0.0.1:${redis.port}`);
  }
  const server = new Server(flags);
  const other = new Server(flags); // on the same store
  await server.start();
  const port = Number(new URL(server.origin).port);
  const proxy = new StallingProxy(port);
  site.onStall = () => proxy.stall();
  const at = (/** @type {number} */ of) => ({host: 'localhost', port: of, path: variant.path, secure: variant.tls});
  const places = {peers: at(port), stalling: at(await proxy.start()), stall: '/stall'};
  try {
    const page = await open(origin);
    await page.evaluate(defineHelpers);
    for (const name of names) {
      await t.test(name, () => page.evaluate(scenes[name], places));
    }
    if (variant.redis) {
      await t.test('crash', async () => {
        await other.start();
        const callee = await page.evaluate(openCallee, places.peers);
        await server.stop('SIGKILL');
        await page.evaluate(callAbsent, {callee, peers: at(Number(new URL(other.origin).port))});
        await server.start();
        await page.evaluate(comeBack);
      });
    }
    await page.close();
  } finally {
    proxy.stop();
    site.stop();
    await server.remove();
    await other.remove();
    redis.stop();
  }
}

const variants = rounds > 0 ?
  [true, false].flatMap(tls => [true, false].map(redis => ({tls, redis, path: redis ? '/peerjs/' : '/'}))) :
  [{tls: true, redis: false, path: '/'}];
const title = (/** @type {{tls: boolean, redis: boolean}} */ {tls, redis}) => `${tls ? 'https' : 'http'}, ${redis ? 'Redis' : 'memory'}`;

for (const variant of variants) {
  test(`Chromium, ${title(variant)}`, {skip: chromium.skip}, async t => {
    const browser = await chromium.launch();
    t.after(() => browser.close());
    const context = await browser.newContext({ignoreHTTPSErrors: true});
    for (let round = 0; round < Math.max(1, rounds); round++) {
      await runScenes(async url => {
        const page = await context.newPage();
        await page.goto(url);
        return page;
      }, variant, Object.keys(scenes), t);
    }
  });

  test(`Firefox, ${title(variant)}`, {skip: firefox.skip}, async t => {
    const browser = await firefox.launch();
    t.after(() => browser.close());
    const names = rounds > 0 ? Object.keys(scenes) : ['pair', 'media', 'taken', 'dead'];
    for (let round = 0; round < Math.max(1, rounds); round++) {
      await runScenes(async url => {
        const page = await browser.newPage();
        await page.goto(url);
        return page;
      }, variant, names, t);
    }
  });
}
