package notify

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/slack"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/teams"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/incident/opsgenie"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/incident/pagerduty"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/specialized/generic"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
	"golang.org/x/net/http/httpguts"
)

// customised is a service whose URL can also be a webhook's own: 'SERVICE+https://…'.
type customised interface {
	types.Service
	GetConfigURLFromCustom(customURL *url.URL) (*url.URL, error)
}

func initialize(service customised, target *url.URL) error {
	if strings.Contains(target.Scheme, "+") {
		converted, err := service.GetConfigURLFromCustom(target)
		if err != nil {
			return err
		}
		target = converted
	}
	return service.Initialize(target, nil)
}

// openGeneric is any webhook: 'generic://host/path', or 'generic+https://host/path'.
func openGeneric(target *url.URL) (*Service, error) {
	service := &generic.Service{}
	if err := initialize(service, target); err != nil {
		return nil, err
	}
	config := service.Config
	webhook, header, err := secure(config.WebhookURL())
	if err != nil {
		return nil, err
	}
	asJSON := strings.EqualFold(config.Template, generic.JSONTemplate)
	writes := config.RequestMethod == http.MethodPost || config.RequestMethod == http.MethodPut || config.RequestMethod == http.MethodPatch
	if !writes || config.Template != "" && !asJSON {
		return nil, errors.New("no such method or template")
	}
	if err := ownHeaders(target, header); err != nil {
		return nil, err
	}
	return overHTTP(webhook, func(message Message) (*post, error) {
		sent, params := header.Clone(), types.Params{config.MessageKey: message.whole()}
		contentType := "text/plain; charset=utf-8"
		if asJSON {
			contentType, params = config.ContentType, types.Params{config.TitleKey: message.Title, config.MessageKey: message.Text}
		}
		if sent.Get("Content-Type") == "" {
			sent.Set("Content-Type", contentType)
		}
		payload, err := service.GetPayload(config, params)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(payload)
		return &post{method: config.RequestMethod, url: webhook.String(), header: sent, body: body}, err
	}), nil
}

// ownHeaders takes the headers that a generic URL names: '@Authorization=…', where capital
// letters begin the words of a name. shoutrrr keeps them to itself.
func ownHeaders(target *url.URL, header http.Header) error {
	for key, values := range target.Query() {
		name, is := strings.CutPrefix(key, "@")
		if !is || name == "" {
			continue
		}
		name = http.CanonicalHeaderKey(dashed(name))
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(values[0]) || name == "Host" || name == "Content-Length" || name == "Transfer-Encoding" {
			return errors.New("no such header")
		}
		header.Set(name, values[0])
	}
	return nil
}

// dashed writes 'ContentType' as 'Content-Type'.
func dashed(name string) string {
	var text strings.Builder
	for i, c := range name {
		if i > 0 && c >= 'A' && c <= 'Z' && name[i-1] != '-' {
			_ = text.WriteByte('-') // a Builder never fails
		}
		_, _ = text.WriteRune(c)
	}
	return text.String()
}

// slackText takes from Slack's text what calls people and makes links.
var slackText = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

const slackMessages = "/api/chat.postMessage"

func openSlack(target *url.URL) (*Service, error) {
	config, err := slack.CreateConfigFromURL(target)
	if err != nil {
		return nil, err
	}
	payload := func(message Message) any {
		shown := *config
		shown.Title = slackText.Replace(message.Title)
		return slack.CreateJSONPayload(&shown, slackText.Replace(message.Text))
	}
	if config.Token.IsAPIToken() {
		return posting(atHost("slack.com", 0, slackMessages), http.Header{"Authorization": {config.Token.Authorization()}}, slackAnswer, payload), nil
	}
	webhook, err := url.Parse(config.Token.WebhookURL())
	if err != nil {
		return nil, err
	}
	return posting(webhook, nil, nil, payload), nil
}

// slackAnswer finds out whether Slack has taken a message: its API says 200 either way.
func slackAnswer(content []byte) *Error {
	answer := slack.APIResponse{}
	if err := json.Unmarshal(content, &answer); err == nil && answer.Ok {
		return nil
	}
	if word.MatchString(answer.Error) {
		return &Error{Message: "it has refused the message: " + answer.Error, Permanent: answer.Error != "ratelimited"}
	}
	return &Error{Message: "it has not said that it took the message"}
}

// card is a MessageCard of Microsoft Teams, with no Markdown.
type card struct {
	Type       string        `json:"@type"`
	Context    string        `json:"@context"`
	ThemeColor string        `json:"themeColor,omitempty"`
	Summary    string        `json:"summary"`
	Title      string        `json:"title"`
	Sections   []cardSection `json:"sections"`
}

type cardSection struct {
	Text     string `json:"text"`
	Markdown bool   `json:"markdown"`
}

func openTeams(target *url.URL) (*Service, error) {
	service := &teams.Service{}
	if err := initialize(service, target); err != nil {
		return nil, err
	}
	config := service.Config
	address := teams.BuildWebhookURL(config.Host, config.Group, config.Tenant, config.AltID, config.GroupOwner, config.ExtraID)
	if err := teams.ValidateWebhookURL(address); err != nil {
		return nil, err
	}
	webhook, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	return posting(webhook, nil, nil, func(message Message) any {
		shown := card{Type: "MessageCard", Context: "http://schema.org/extensions", ThemeColor: config.Color, Summary: message.Title, Title: message.Title}
		for line := range strings.SplitSeq(message.Text, "\n") {
			shown.Sections = append(shown.Sections, cardSection{Text: line})
		}
		return shown
	}), nil
}

// maxSummary is how many characters PagerDuty takes.
const maxSummary = 1024

func openPagerDuty(target *url.URL) (*Service, error) {
	service := &pagerduty.Service{}
	if err := service.Initialize(target, nil); err != nil {
		return nil, err
	}
	config := service.Config
	if config.Action != "trigger" {
		return nil, errors.New("a message triggers")
	}
	return posting(atHost(config.Host, config.Port, "/v2/enqueue"), nil, nil, func(message Message) any {
		return pagerduty.EventPayload{
			Payload:    pagerduty.Payload{Summary: cut(message.whole(), maxSummary), Severity: config.Severity, Source: config.Source},
			RoutingKey: config.IntegrationKey, EventAction: config.Action, DedupKey: cmp.Or(config.DedupKey, message.Key),
			Client: config.Client, ClientURL: config.ClientURL,
		}
	}), nil
}

func openOpsgenie(target *url.URL) (*Service, error) {
	service := &opsgenie.Service{}
	if err := service.Initialize(target, nil); err != nil {
		return nil, err
	}
	config := service.Config
	if config.APIKey == "" {
		return nil, errors.New("no key")
	}
	header := http.Header{"Authorization": {"GenieKey " + config.APIKey}}
	return posting(atHost(config.Host, config.Port, "/v2/alerts"), header, nil, func(message Message) any {
		return opsgenie.AlertPayload{
			Message: cut(message.Title, opsgenie.MaxMessageLength), Description: message.Text, Alias: cmp.Or(config.Alias, message.Key),
			Responders: config.Responders, VisibleTo: config.VisibleTo, Actions: config.Actions, Tags: config.Tags,
			Details: config.Details, Entity: config.Entity, Source: config.Source, Priority: config.Priority, User: config.User, Note: config.Note,
		}
	}), nil
}
