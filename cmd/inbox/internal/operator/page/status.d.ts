/** The state of the server, as docs/monitoring.md describes it. */
export interface Status {
  version: string;
  time: string;
  ready: boolean;
  failing: string[];
  process: {started_at: string; uptime_seconds: number; memory_bytes: number; memory_limit_bytes: number};
  restarts: {last_day: number; last_week: number; earlier: string[]; restored_mailboxes: number; restored_messages: number; loss: string};
  certificates: Certificate[];
  mailboxes: {claimed: number; limit: number; claimed_total: number; queued_messages: number; queued_bytes: number; queued_bytes_limit: number};
  messages: {delivered_total: number; requeued_total: number; per_second: number};
  receivers: {open: number, transports: Record<string, number>};
  protocols: {protocol: string; open: number; frames_total: number}[];
  connections: {open: number; limit: number; accepted_total: number};
  refusals: Layer[];
  invitations: {valid: number; expired: number; revoked: number; guest_passes_total: number} | null;
  turn: Turn | null;
  warnings: Warning[];
  history: {
    interval_seconds: number;
    messages_per_second: number[];
    refusals_per_second: number[];
    turn_bits_per_second: number[];
    mailboxes: number[];
    receivers: number[];
    memory_bytes: number[];
  };
}

export interface Certificate {
  name: string;
  source: string;
  issuer: string;
  status: string;
  last_error: string;
  failures: number;
  not_before: string | null;
  not_after: string | null;
  renew_at: string | null;
  last_attempt: string | null;
  next_attempt: string | null;
}

export interface Layer {
  layer: string;
  title: string;
  total: number;
  last_15_minutes: number;
  reasons: Record<string, number>;
}

export interface Turn {
  allocations: number;
  allocations_total: number;
  bits_per_second: number;
  relayed_bytes_total: number;
  month_bytes: number;
  month_limit_bytes: number;
  month_ends_at: string;
}

export interface Warning {
  time: string;
  level: string;
  message: string;
  count: number;
  attributes: {name: string; value: string}[];
}
