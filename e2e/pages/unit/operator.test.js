/** Tests the charts and formats of the operator's page. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {paths, points} from '../../../cmd/inbox/internal/operator/page/chart.js';
import {bitRate, count, memory, percent, perSecond, plural, span, traffic} from '../../../cmd/inbox/internal/operator/page/format.js';

test('a full chart reaches from the left to the right', () => {
  assert.deepEqual(points([0, 1, 2], 3, 2), ['0.0 63.0', '150.0 33.0', '300.0 3.0']);
});

test('a chart that is not full begins further to the right', () => {
  assert.deepEqual(points([2, 2], 4, 2), ['200.0 3.0', '300.0 3.0']);
});

test('a chart of zeros is a line at the bottom, and one of nothing is empty', () => {
  assert.deepEqual(paths([0, 0], 2, 0), {line: 'M0.0 63.0L300.0 63.0', area: 'M0.0 63.0L300.0 63.0L300 64L0.0 64Z'});
  assert.deepEqual(paths([1], 2, 1), {line: '', area: ''});
});

test('numbers have units and separators', () => {
  const formatted = [count(1234567), memory(1536), memory(0), traffic(412e9), traffic(1e12), bitRate(2.14e6), percent(0.412), perSecond(0), perSecond(0.01), perSecond(1234.5)];
  assert.deepEqual(formatted.map(text => text.replace('\u00a0', ' ')), ['1,234,567', '1.5 KiB', '0 B', '412 GB', '1 TB', '2.1 Mbit/s', '41 %', '0.0', '<0.1', '1,235']);
});

test('durations and things have the right number', () => {
  assert.deepEqual([span(61 * 86400), span(-90000), span(119), plural(1, 'mailbox'), plural(2, 'mailbox')], ['61 days', '25 hours', '119 seconds', '1 mailbox', '2 mailboxes']);
});
