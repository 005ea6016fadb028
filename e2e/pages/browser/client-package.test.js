/** What the npm package inbox-client contains: its modules, types, sizes and examples. No browser is needed. */

import assert from 'node:assert/strict';
import {execFileSync, spawnSync} from 'node:child_process';
import {readFileSync, readdirSync} from 'node:fs';
import {join} from 'node:path';
import {after, before, test} from 'node:test';
import {fileURLToPath} from 'node:url';
import {gzipSync} from 'node:zlib';
import {build} from 'esbuild';
import {ClientSite} from '../lib/client-site.js';
import {Server} from '../lib/server.js';

const publicPath = fileURLToPath(new URL('../../../public/', import.meta.url));
const tsc = fileURLToPath(new URL('../node_modules/typescript/bin/tsc', import.meta.url));
/** The largest sizes in bytes as one file, with gzip. A part adds its size to that of inbox-client. */
const limits = {'inbox-client': 8_000, 'inbox-client/inbox': 3_200, 'inbox-client/peer': 1_700, 'inbox-client/data-channel': 3_400};
const partLimits = {'inbox-client/streams': 4_800, 'inbox-client/channels': 2_400, 'inbox-client/paths': 1_700, 'inbox-client/seal': 1_250};

const site = new ClientSite();
/** @type {Server} */
let server;
/** @type {string[]} */
let examples = [];

before(async () => {
  site.install();
  server = new Server();
  await server.start();
  examples = site.examples;
});

after(async () => {
  await server?.remove();
  site.remove();
});

test('the modules are those that the server has', async () => {
  const modules = readdirSync(site.package).filter(name => name.endsWith('.js') && name !== 'global.js');
  assert.ok(modules.includes('connect.js') && modules.includes('stream-inbox.js'));
  for (const name of modules) {
    const text = readFileSync(join(site.package, name), 'utf8');
    assert.ok(text === readFileSync(join(publicPath, name), 'utf8'), `${name}: not the module in public`);
    const served = execFileSync('curl', ['-sk', '--fail', `${server.origin}/client/1/${name}`], {encoding: 'utf8'});
    assert.ok(text === served, `${name}: not the module that the server has`);
  }
});

test('it depends on nothing', () => {
  const {dependencies, peerDependencies, scripts} = JSON.parse(readFileSync(join(site.package, 'package.json'), 'utf8'));
  assert.deepEqual([dependencies, peerDependencies, scripts], [undefined, undefined, undefined]);
});

/**
 * Bundles modules as an application would, and returns the size of the only file, with gzip.
 * @param {string[]} names
 */
async function sizeOf(...names) {
  const {outputFiles} = await build({
    stdin: {contents: names.map(name => `export * from '${name}';`).join('\n'), resolveDir: site.directory},
    bundle: true, splitting: true, minify: true, format: 'esm', write: false, outdir: 'out',
  });
  assert.equal(outputFiles.length, 1, 'nothing is loaded later');
  return gzipSync(outputFiles[0].contents, {level: 9}).length;
}

test('its sizes', async t => {
  for (const [name, limit] of Object.entries(limits)) {
    const size = await sizeOf(name);
    t.diagnostic(`${name}: ${size} bytes`);
    assert.ok(size > 1_000 && size <= limit, `${name}: got ${size} bytes, want at most ${limit}`);
  }
  const core = await sizeOf('inbox-client');
  for (const [name, limit] of Object.entries(partLimits)) {
    const size = await sizeOf('inbox-client', name) - core;
    t.diagnostic(`${name} adds ${size} bytes`);
    assert.ok(size > 500 && size <= limit, `${name}: got ${size} bytes more, want at most ${limit}`);
  }
});

test('docs/javascript.md and the README have these sizes', async () => {
  const kilobytes = (/** @type {number} */ size) => `${(size / 1000).toFixed(1)} KB`;
  const core = await sizeOf('inbox-client');
  const want = [`\`inbox-client\` ${kilobytes(core)}`];
  for (const name of Object.keys(limits).slice(1)) want.push(`\`${name}\` ${kilobytes(await sizeOf(name))}`);
  for (const name of Object.keys(partLimits)) want.push(`\`${name}\` + ${kilobytes(await sizeOf('inbox-client', name) - core)}`);
  for (const path of ['../../../docs/javascript.md', '../../../public/npm/README.md']) {
    const sizes = readFileSync(new URL(path, import.meta.url), 'utf8').split('\n')
      .map(line => /^\| (?:\[)?(`[^`]+`).*\| (\+ )?(\d\.\d KB) \|$/.exec(line)).flatMap(match => (match ? [`${match[1]} ${match[2] ?? ''}${match[3]}`] : []));
    assert.deepEqual(sizes.filter(size => !want.includes(size)), [], path);
    assert.ok(sizes.length >= 5, `${path}: got ${sizes.length} sizes`);
  }
});

for (const [module, moduleResolution] of [['esnext', 'bundler'], ['nodenext', 'nodenext']]) {
  test(`the examples of the README compile in strict TypeScript, moduleResolution ${moduleResolution}`, () => {
    assert.equal(examples.length, 4);
    examples.forEach((code, i) => site.write(`example${i}.ts`, code));
    site.write('misuse.ts', `import {connect} from 'inbox-client';
      // @ts-expect-error the name of the callee is missing
      await connect('https://example.org/inbox');
      // @ts-expect-error there is no such state
      (await connect('https://example.org/inbox', 'bob')).addEventListener('state', ({detail}) => detail === 'open');\n`);
    site.write('options.ts', `import {Inbox} from 'inbox-client/inbox';
      import {Peer} from 'inbox-client/peer';
      import {connect, listen} from 'inbox-client';
      import {StreamInbox} from 'inbox-client/streams';
      import {ChannelCall} from 'inbox-client/channels';
      import {WatchedPeer} from 'inbox-client/paths';
      const none = undefined;
      new Inbox('https://example.org/inbox', {name: 'a', password: 'b', client: none, fetch: none, invite: none});
      new StreamInbox('https://example.org/inbox', {name: 'a', password: 'b', fetch: none, WebSocket: none, transports: none, sealer: none});
      new Peer({call: 'a', polite: true, send: signal => signal.n, iceServers: none, fetchIceServers: none, iceTransportPolicy: none, connect: none});
      new WatchedPeer({call: 'a', polite: true, send: signal => signal.n, connect: none, twoWay: none});
      const parts = {Inbox: StreamInbox, Call: ChannelCall, Peer: WatchedPeer};
      const call = await connect('https://example.org/inbox', 'bob', {...parts, signal: none});
      call.createChannel('files').send(new Blob());
      (await listen('https://example.org/inbox', parts)).addEventListener('call', ({detail}) => detail.close());
      // @ts-expect-error the core has one channel
      (await connect('https://example.org/inbox', 'bob')).createChannel('files');\n`);
    site.write('tsconfig.json', JSON.stringify({
      compilerOptions: {
        strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, noEmit: true, types: [], target: 'es2022', module, moduleResolution,
        lib: ['es2023', 'dom', 'dom.iterable'],
      },
      include: ['*.ts'],
    }));
    const {status, stdout} = spawnSync(process.execPath, [tsc, '-p', site.directory], {encoding: 'utf8'});
    assert.equal(status, 0, stdout);
  });
}

test('docs/javascript.md describes each export, member, event, option and error code', async () => {
  const docs = readFileSync(new URL('../../../docs/javascript.md', import.meta.url), 'utf8');
  const {exports} = JSON.parse(readFileSync(join(site.package, 'package.json'), 'utf8'));
  const described = new Set([...docs.replace(/^```.*?^```/gms, '').matchAll(/`(?:new )?([^`]+)`/g)].flatMap(([, code]) => code.match(/[\w-]+/g) ?? []));
  /** @type {string[]} */
  const names = [];
  for (const {default: path} of Object.values(exports)) {
    const name = path.slice('./'.length);
    if (name === 'global.js') continue;
    names.push(...Object.keys(await import(join(site.package, name))));
  }
  for (const name of ['connect', 'inbox', 'stream-inbox', 'peer', 'watched-peer', 'peer-call', 'channel-call', 'channel', 'data-channel', 'seal', 'codec']) {
    const types = readFileSync(join(site.package, `${name}.d.ts`), 'utf8').replace(/\/\*\*.*?\*\//gs, '');
    for (const [, body] of types.matchAll(/^export declare class (?:Inbox|StreamInbox|InboxError|Call|ChannelCall|Listener|Channel|DataChannel|Peer|WatchedPeer|Sealer|SealError)\b.*?\{$(.*?)^\}/gms)) {
      names.push(...[...body.matchAll(/^ {4}(?:static |readonly )*(?:get )?(\w+)[?(:]/gm)].map(([, member]) => member));
    }
    for (const [, body] of types.matchAll(/^export type (?:\w+Events|CallOptions|InboxOptions|Options|StreamOptions) = \{$(.*?)^\};/gms)) {
      names.push(...[...body.matchAll(/^ {4}(\w+)\??:/gm)].map(([, member]) => member));
    }
  }
  for (const name of readdirSync(site.package).filter(name => name.endsWith('.js') && name !== 'global.js')) {
    const text = readFileSync(join(site.package, name), 'utf8');
    names.push(...[...text.matchAll(/new (?:Inbox|Seal)Error\('([\w-]+)'/g)].map(([, code]) => code));
  }
  assert.ok(names.includes('createChannel') && names.includes('superseded') && names.includes('iceTransportPolicy') && names.length > 80, `got ${names}`);
  assert.deepEqual(names.filter(name => name !== 'constructor' && !described.has(name)), []);
});

test('the example for Node.js receives its message', () => {
  const code = examples.at(-1)?.replaceAll('https://example.org', server.origin).replace('console.log(from, data)', '{ console.log(from, data.hello); inbox.release(); }');
  site.write('node.js', code ?? '');
  const output = execFileSync(process.execPath, ['node.js'], {cwd: site.directory, encoding: 'utf8', timeout: 60_000, env: {...process.env, NODE_TLS_REJECT_UNAUTHORIZED: '0'}});
  assert.match(output, /^carol there$/m);
});
