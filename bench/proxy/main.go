// Proxy is what one would write in Go with the standard library for the core of the gateway's work: read the body,
// find the model, set a sampler value where the client sent none, pass it all on, and stream the answer.
//
// It does much less than the gateway: no queue, no guard, no log, no watch over the end of a stream, no renaming.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"time"
)

const bodyLimit = 64 << 20

func rewritten(body []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, err
	}
	var model string
	if err := json.Unmarshal(fields["model"], &model); err != nil {
		return nil, err
	}
	if _, there := fields["temperature"]; !there {
		fields["temperature"] = json.RawMessage("0.7")
	}
	return json.Marshal(fields)
}

func main() {
	listen := flag.String("listen", "", "host:port to listen on")
	upstream := flag.String("upstream", "", "URL of the model's server")
	flag.Parse()
	target, err := url.Parse(*upstream)
	if err != nil {
		log.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(request *httputil.ProxyRequest) { request.SetURL(target) },
		FlushInterval: -1,
		Transport: &http.Transport{
			MaxIdleConns:        0,
			MaxIdleConnsPerHost: 1024,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
		},
	}
	handler := func(writer http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(writer, request.Body, bodyLimit))
		if err == nil {
			body, err = rewritten(body)
		}
		if err != nil {
			http.Error(writer, err.Error(), http.StatusBadRequest)
			return
		}
		request.Body = io.NopCloser(bytes.NewReader(body))
		request.ContentLength = int64(len(body))
		request.Header.Set("Content-Length", strconv.Itoa(len(body)))
		proxy.ServeHTTP(writer, request)
	}
	log.Fatal(http.ListenAndServe(*listen, http.HandlerFunc(handler)))
}
