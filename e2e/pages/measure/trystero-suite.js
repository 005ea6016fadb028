/**
 * Runs Trystero's own tests of its ws-relay strategy in Chromium: against its own relay and against
 * this server, in alternation. scripts/soak trystero runs it.
 *
 * TRYSTERO is a folder with the source of github.com/dmotz/trystero, which is copied. ROUNDS is how
 * often the tests run. INBOX_BINARY names the binary, as in the tests.
 */

import {execFileSync, spawn} from 'node:child_process';
import {cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {createServer} from 'node:https';
import {tmpdir} from 'node:os';
import {extname, join, normalize} from 'node:path';
import {once} from 'node:events';
import {build} from 'esbuild';
import {executablePath} from '../lib/browser.js';
import {Server, freePort} from '../lib/server.js';

/** What the tests import from npm. */
const packages = [
  '@playwright/test@1.65.1', 'chalk@5.6.2', 'source-map@0.8.0', 'ws@8.23.0',
  '@trystero-p2p/mqtt@0.25.4', '@trystero-p2p/nostr@0.25.4', '@trystero-p2p/torrent@0.25.4',
];
const source = process.env.TRYSTERO ?? '';
const rounds = Number(process.env.ROUNDS ?? 5);

if (!existsSync(join(source, 'packages/ws-relay/src/server.ts'))) {
  console.error(`TRYSTERO is ${JSON.stringify(source)}, which is no folder with the source of Trystero`);
  process.exit(1);
}

/** The tests find their packages in the parent of their own folder. */
const parent = mkdtempSync(join(tmpdir(), 'trystero-suite-'));
const folder = join(parent, 'trystero');
process.once('exit', () => rmSync(parent, {recursive: true, force: true}));

/** Builds what the tests load: the client as a page imports it, and the relay. */
async function prepare() {
  cpSync(source, folder, {recursive: true, filter: path => !/\/(node_modules|\.git)$/.test(path)});
  execFileSync('npm', ['install', '--silent', '--no-audit', '--no-fund', '--prefix', parent, ...packages], {stdio: 'inherit'});
  /** @type {import('esbuild').BuildOptions} */
  const options = {absWorkingDir: folder, bundle: true, format: 'esm', target: 'es2022', logLevel: 'error'};
  await Promise.all([
    build({
      ...options, entryPoints: ['packages/ws-relay/src/index.ts'], outfile: 'dist/trystero-ws-relay.min.js', platform: 'browser',
      alias: {'@trystero-p2p/core': join(folder, 'packages/core/src/index.ts')}, dropLabels: ['DEV'],
    }),
    build({
      ...options, entryPoints: ['scripts/start-ws-relay.ts'], outfile: 'scripts/start-ws-relay.mjs', platform: 'node', external: ['ws'],
      alias: {'@trystero-p2p/ws-relay/server': join(folder, 'packages/ws-relay/src/server.ts')},
    }),
  ]);
  writeFileSync(join(folder, 'inbox.config.mjs'), `export default ${JSON.stringify({
    testDir: 'test', testMatch: 'ws-relay.spec.ts', timeout: 53_333, reporter: [['json', {outputFile: join(folder, 'results.json')}]], workers: 1,
    projects: [{name: 'chromium', use: {browserName: 'chromium'}}],
    use: {
      ignoreHTTPSErrors: true,
      launchOptions: {
        executablePath,
        args: [
          '--no-sandbox', '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream',
          '--allow-loopback-in-peer-connection', '--disable-features=WebRtcHideLocalIpsWithMdns',
        ],
      },
    },
  })}`);
}

/** Serves the folder over https, as the tests expect it. @returns {Promise<import('node:https').Server>} */
async function serve() {
  const read = (/** @type {string} */ path) => readFileSync(join(folder, normalize(path)));
  const server = createServer({cert: read('test/certs/cert.pem'), key: read('test/certs/key.pem')}, ({url = ''}, response) => {
    const path = url === '/test' ? '/test/index.html' : url.split('?')[0];
    try {
      const content = read(path);
      response.setHeader('Content-Type', extname(path) === '.html' ? 'text/html' : 'text/javascript');
      response.end(content);
    } catch {
      response.writeHead(404).end();
    }
  }).listen(0, 'localhost');
  await once(server, 'listening');
  return server;
}

/**
 * Runs the tests with these relays, prints the results and returns how many passed.
 * @param {string} name @param {number} port of the pages @param {string[]} urls
 */
async function run(name, port, urls) {
  const cli = join(parent, 'node_modules/@playwright/test/cli.js');
  const report = join(folder, 'results.json');
  rmSync(report, {force: true});
  const child = spawn(process.execPath, [cli, 'test', '-c', 'inbox.config.mjs'], {
    cwd: folder, stdio: ['ignore', 'pipe', 'inherit'],
    env: {...process.env, TRYSTERO_TEST_PORT: `${port}`, TRYSTERO_WS_RELAY_URLS: urls.join(',')},
  });
  let output = '';
  child.stdout.on('data', chunk => { output += chunk; });
  await once(child, 'close');
  if (!existsSync(report)) throw new Error(`the tests did not run: ${output}`);
  const {suites, errors} = JSON.parse(readFileSync(report, 'utf8'));
  if (errors.length > 0) throw new Error(`the tests did not run: ${errors[0].message}`);
  const specs = suites.flatMap((/** @type {any} */ suite) => suite.specs);
  for (const {title, ok, tests: [{results: [{duration, error}]}]} of specs) {
    console.log(`${name}: ${ok ? 'passed' : 'FAILED'} in ${(duration / 1000).toFixed(1)} s: ${title}`);
    if (!ok) console.log(`  ${String(error?.message).split('\n')[0]}`);
  }
  return specs.filter((/** @type {any} */ {ok}) => ok).length;
}

/** Starts two of Trystero's own relays, with TLS. */
async function startOwnRelays() {
  const ports = [await freePort(), await freePort()];
  const child = spawn(process.execPath, ['scripts/start-ws-relay.mjs'], {
    cwd: folder, stdio: ['ignore', 'pipe', 'inherit'], env: {...process.env, TRYSTERO_WS_RELAY_PORTS: ports.join(',')},
  });
  process.once('exit', () => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  return {urls: ports.map(port => `wss://localhost:${port}`), stop: async () => void child.kill()};
}

async function startInboxes() {
  const servers = [new Server(['-compat', 'topics']), new Server(['-compat', 'topics'])];
  await Promise.all(servers.map(server => server.start()));
  return {
    urls: servers.map(({origin}) => origin.replace('https:', 'wss:') + '/topics'),
    stop: async () => void await Promise.all(servers.map(server => server.remove())),
  };
}

await prepare();
const pages = await serve();
const address = pages.address();
const port = typeof address === 'object' && address ? address.port : 0;
const passed = {relay: 0, inbox: 0};
for (let round = 0; round < rounds; round++) {
  for (const [name, start] of /** @type {const} */ ([['relay', startOwnRelays], ['inbox', startInboxes]])) {
    const {urls, stop} = await start();
    passed[name] += await run(name, port, urls);
    await stop();
  }
}
pages.close();
pages.closeAllConnections();
console.log(`passed of ${4 * rounds} tests: Trystero's own relay ${passed.relay}, this server ${passed.inbox}`);
if (passed.inbox < passed.relay) process.exitCode = 1;
