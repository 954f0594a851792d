import { randomUUID } from "node:crypto";
import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import { errors } from "@elastic/elasticsearch";
import type { FastifyError, FastifyReply, FastifyRequest } from "fastify";
import { Type } from "typebox";
import { ApiError, isUnavailable } from "./users.js";

const ErrorBody = Type.Object({
  statusCode: Type.Integer(),
  error: Type.String(),
  message: Type.String(),
  requestId: Type.String({ description: "Also in the logs and in the header x-request-id" }),
});
export const Problem = (description: string) => ({ ...ErrorBody, description });

/** What a client is told, by what the framework calls it or by its status: nobody's own words leave this process. */
const SAID: Record<string | number, string> = {
  FST_ERR_CTP_EMPTY_JSON_BODY: "The body is empty",
  FST_ERR_CTP_INVALID_JSON_BODY: "The body is not valid JSON",
  400: "The request cannot be understood",
  404: "There is nothing here",
  408: "The request did not come to its end in time",
  413: "Request body is too large",
  414: "The path is too long",
  415: "The body must be of the type application/json",
  431: "The headers are too large",
  500: "Something went wrong here; the request id finds it in the logs",
};

const problem = (statusCode: number, message: string, requestId: string) => ({
  statusCode,
  error: STATUS_CODES[statusCode],
  message,
  requestId,
});

/** Tells the client what it can use; what went wrong inside goes to the log alone. */
export function fail(error: FastifyError | ApiError, request: FastifyRequest, reply: FastifyReply) {
  const answer = (statusCode: number, message: string) =>
    reply
      .code(statusCode)
      .header("x-request-id", request.id)
      .send(problem(statusCode, message, request.id));
  if (isUnavailable(error)) {
    request.log.warn({ reason: error.message }, "Elasticsearch is not available");
    reply.header("retry-after", "5");
    return answer(503, "The user store does not answer; try again in a few seconds");
  }
  // Elasticsearch's own status is between it and us.
  const statusCode = error instanceof errors.ElasticsearchClientError ? 500 : (error.statusCode ?? 500);
  if (statusCode < 500) {
    if (statusCode === 401) reply.header("www-authenticate", "Bearer");
    const own = error instanceof ApiError || error.validation !== undefined;
    return answer(statusCode, own ? error.message : said(statusCode, error.code));
  }
  request.log.error({ reason: error.message, stack: error.stack }, "request failed");
  return answer(500, said(500));
}

/** For what is no request: there is nobody to answer it but the connection. */
export function refuse(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === "ECONNRESET" || !socket.writable) return void socket.destroy();
  const statusCode = { ERR_HTTP_REQUEST_TIMEOUT: 408, HPE_HEADER_OVERFLOW: 431 }[error.code ?? ""] ?? 400;
  const requestId = randomUUID();
  const body = JSON.stringify(problem(statusCode, said(statusCode), requestId));
  const headers = {
    "Content-Type": "application/json; charset=utf-8",
    "Content-Length": Buffer.byteLength(body),
    "X-Request-Id": requestId,
    Connection: "close",
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  socket.end([`HTTP/1.1 ${statusCode} ${STATUS_CODES[statusCode]}`, ...lines, "", body].join("\r\n"));
}

const said = (statusCode: number, code = ""): string =>
  SAID[code] ?? SAID[statusCode] ?? STATUS_CODES[statusCode] ?? "";
