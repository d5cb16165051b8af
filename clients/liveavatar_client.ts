// A client of the LiveAvatar service of a ComfyUI. One file; Node 22.6 or newer, Deno, Bun, and pages of the same origin.
//
//     node --experimental-strip-types liveavatar_client.ts portrait.png speech.wav video.mp4 --seed 42
//
// As a library:
//
//     const client = new Client("http://127.0.0.1:8188");
//     const video = await client.submit({ reference_image: await base64(file), audio: await base64(sound), seed: 42 });
//     await client.wait(video.id);
//     const mp4 = await client.file(video.id);

export interface Wish {
  /** Base64, a data URL, or a name in ComfyUI's input folder; so is audio. */
  reference_image: string;
  audio?: string;
  text?: string;
  voice?: string;
  prompt?: string;
  seed?: number | "random";
  num_inference_steps?: number;
  guidance_scale?: number;
  fps?: number;
  seconds?: number;
  workflow?: string;
}

export interface Accepted {
  id: string;
  /** Seeds above 2^53 lose their last digits in JavaScript. */
  seed: number;
  status: string;
  stream: string;
  file: string;
}

export interface Status {
  id: string;
  state: "waiting" | "running" | "finished" | "failed" | "stopped";
  ahead: number;
  seed: number | null;
  frames: number;
  total_frames: number | null;
  fps: number | null;
  error: string | null;
}

export interface Health {
  ready: boolean;
  plan: string | null;
  memory: { device: string; free_bytes: number; total_bytes: number };
  streams: number;
  queue: { running: number; waiting: number };
}

/** The service refuses, or a video has failed; the message says why. */
export class ServiceError extends Error {
  status?: number;

  constructor(message: string, status?: number) {
    super(message);
    this.status = status;
  }
}

const POLL_MS = 500;

export class Client {
  url: string;
  key?: string;

  constructor(url = "http://127.0.0.1:8188", key?: string) {
    this.url = url.replace(/\/$/, "");
    this.key = key;
  }

  /** Queue a video. */
  submit(wish: Wish): Promise<Accepted> {
    return this.json("POST", "/liveavatar/generate", { ...wish, wait: false });
  }

  /** How far a video is. */
  status(id: string): Promise<Status> {
    return this.json("GET", `/liveavatar/generate/${id}`);
  }

  /** Wait for a video; ServiceError where it fails. */
  async wait(id: string, watch: (status: Status) => void = () => {}): Promise<Status> {
    for (;;) {
      const told = await this.status(id);
      if (told.state === "finished") return told;
      if (told.state === "failed" || told.state === "stopped") {
        throw new ServiceError(told.error ?? "The video was stopped.");
      }
      watch(told);
      await new Promise((done) => setTimeout(done, POLL_MS));
    }
  }

  /** Stop a video, or take it out of the queue. */
  stop(id: string): Promise<Status> {
    return this.json("DELETE", `/liveavatar/generate/${id}`);
  }

  /** A finished video. */
  async file(id: string): Promise<Blob> {
    return (await this.send("GET", `/liveavatar/generate/${id}/file`)).blob();
  }

  /** The bytes of a video while it is made; reading fails where its run ends early. */
  async stream(id: string): Promise<ReadableStream<Uint8Array>> {
    return (await this.send("GET", `/liveavatar/generate/${id}/stream`)).body!;
  }

  /** Whether the service takes videos, its free memory and its queue. */
  health(): Promise<Health> {
    return this.json("GET", "/liveavatar/health");
  }

  private async json<T>(method: string, path: string, body?: unknown): Promise<T> {
    return (await this.send(method, path, body)).json() as Promise<T>;
  }

  private async send(method: string, path: string, body?: unknown): Promise<Response> {
    const headers: Record<string, string> = {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (this.key) headers["Authorization"] = `Bearer ${this.key}`;
    const answer = await fetch(this.url + path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (answer.ok) return answer;
    const text = await answer.text();
    let message = text || answer.statusText;
    try {
      message = JSON.parse(text).error ?? message;
    } catch {
      // ComfyUI's own refusals are no JSON.
    }
    throw new ServiceError(message, answer.status);
  }
}

/** A file's bytes for a request. */
export async function base64(file: Blob): Promise<string> {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}

async function main(given: string[]): Promise<void> {
  const { readFile, writeFile } = await import("node:fs/promises");
  const { parseArgs } = await import("node:util");
  const names = ["url", "prompt", "seed", "steps", "guidance", "fps", "seconds", "workflow"] as const;
  const { values, positionals } = parseArgs({
    args: given,
    allowPositionals: true,
    options: Object.fromEntries(names.map((name) => [name, { type: "string" as const }])),
  });
  const [image, audio, target] = positionals;
  if (!target) throw new Error("Usage: liveavatar_client.ts IMAGE AUDIO VIDEO.mp4 [--seed N] [--workflow demo] ...");
  const read = async (path: string) => base64(new Blob([await readFile(path)]));
  const number = (text?: string | boolean) => {
    const value = text === undefined ? undefined : Number(text);
    if (Number.isNaN(value)) throw new Error(`Give a number in place of ${text}.`); // JSON would leave it out
    return value;
  };
  const client = new Client(values.url as string | undefined, process.env.LIVEAVATAR_HTTP_KEY);
  const video = await client.submit({
    reference_image: await read(image),
    audio: await read(audio),
    prompt: values.prompt as string | undefined,
    seed: number(values.seed),
    num_inference_steps: number(values.steps),
    guidance_scale: number(values.guidance),
    fps: number(values.fps),
    seconds: number(values.seconds),
    workflow: values.workflow as string | undefined,
  });
  await client.wait(video.id, (told) => {
    process.stderr.write(`\r${told.frames} of ${told.total_frames ?? "?"} frames `);
  });
  await writeFile(target, new Uint8Array(await (await client.file(video.id)).arrayBuffer()));
  process.stderr.write(`\n${target} is written, seed ${video.seed}.\n`);
}

declare const process: { argv: string[]; env: Record<string, string | undefined>; stderr: { write(text: string): void }; exitCode?: number };

if (typeof process !== "undefined" && process.argv?.[1]?.endsWith("liveavatar_client.ts")) {
  main(process.argv.slice(2)).catch((error: Error) => {
    process.stderr.write(`\n${error.message}\n`);
    process.exitCode = 1;
  });
}
