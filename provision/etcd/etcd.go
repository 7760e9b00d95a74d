// Package etcd queries the members of a cluster's etcd and their health.
//
// It knows neither hosts nor Kubernetes: callers pass the members' addresses and a dialer. It does
// not change membership or take snapshots yet.
package etcd

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"slipway.dev/slipway/provision/secret"
)

// Endpoint is a member's client address.
type Endpoint struct {
	// Address is host:port; the host must be in the member's certificate.
	Address string
	// Dial reaches it, for example through a machine's SSH connection; nil is the network from
	// here.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client asks members. It keeps no connection: those live as long as a question.
type Client struct {
	endpoints []Endpoint
	tls       *tls.Config
}

// New makes a client that shows members the certificate cert, and trusts those that ca has issued.
// All are in PEM.
func New(endpoints []Endpoint, ca, cert []byte, key secret.Bytes) (*Client, error) {
	if len(endpoints) == 0 {
		return nil, errors.New("set up the etcd client: no endpoints")
	}
	pair, err := tls.X509KeyPair(cert, key.Reveal())
	if err != nil {
		return nil, fmt.Errorf("set up the etcd client: certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("set up the etcd client: no CA certificate in PEM")
	}
	return &Client{endpoints, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}}, nil
}

// Member is a member of the cluster: its data in the member list, and its own status.
type Member struct {
	// Name is empty for one that has been added and has not started yet.
	Name string
	ID   uint64
	// ClusterID is etcd's ID of the cluster, from the member's status; zero if it did not answer.
	ClusterID            uint64
	PeerURLs, ClientURLs []string
	Learner              bool
	// Answers means that it answered a linearizable read: it sees a leader, and a majority works.
	Answers bool
	// Healthy means that it answers and has no alarm.
	Healthy bool
	// Out means that it is certainly not part of a majority: nothing listens on its address, or it
	// has reported for some seconds that it sees no leader. A member that did not answer in time
	// may not be out.
	Out bool
	// Leader, DBSize, Quota (bytes) and Version are from the member's answer; zero if there was
	// none.
	Leader        bool
	DBSize, Quota int64
	Version       string
	// Alarms of this member, by their names in etcd: NoSpace, Corrupt. Any member may have told of
	// them.
	Alarms []string
	// Err is why it is not healthy; an *AlarmError for its alarms.
	Err error
}

// The alarms that etcd has.
const (
	NoSpace = "NOSPACE"
	Corrupt = "CORRUPT"
)

// AlarmError means that a member works but has raised alarms, which stay until they are disarmed.
type AlarmError struct{ Alarms []string }

func (e *AlarmError) Error() string {
	var all []string
	for _, alarm := range e.Alarms {
		switch alarm {
		case NoSpace:
			alarm += ": its database has reached its quota, and nothing can be written; `etcdctl defrag` makes room, then `etcdctl alarm disarm`"
		case Corrupt:
			alarm += ": its data is not that of the other members"
		}
		all = append(all, "alarm "+alarm)
	}
	return strings.Join(all, "; ")
}

// answer is the result of one endpoint.
type answer struct {
	status  *clientv3.StatusResponse
	members []*etcdserverpb.Member // as known to this member, without a linearizable read
	err     error
	readErr error // of the linearizable read
	// leaderless means that it answered for leaderlessTime without seeing a leader.
	leaderless bool
}

// Status asks every endpoint side by side, for 5 s at most, and lists the cluster's members by
// name. A member that no endpoint led to, or that did not answer, is in the list with its Err. The
// error is for when none answered.
func (c *Client) Status(ctx context.Context) ([]Member, error) {
	answers := make([]answer, len(c.endpoints))
	var questions sync.WaitGroup
	for i, e := range c.endpoints {
		questions.Go(func() { answers[i] = c.ask(ctx, e) })
	}
	questions.Wait()
	members := c.merge(answers)
	if members != nil {
		return members, nil
	}
	errs := make([]error, len(answers))
	for i, a := range answers {
		errs[i] = fmt.Errorf("%s: %w", c.endpoints[i].Address, a.err)
	}
	return nil, fmt.Errorf("no member of etcd answers: %w", errors.Join(errs...))
}

// merge takes the list of members from one that answered, best from one that sees a majority, and
// what each said.
func (c *Client) merge(answers []answer) []Member {
	var known []*etcdserverpb.Member
	byID, alarms := map[uint64]answer{}, map[uint64][]string{}
	healthy := false
	for _, a := range answers {
		if a.err != nil {
			continue
		}
		byID[a.status.Header.MemberId] = a
		noteAlarms(alarms, a.status.Errors)
		if known == nil || !healthy && a.readErr == nil {
			known, healthy = a.members, a.readErr == nil
		}
	}
	if known == nil {
		return nil
	}
	members := make([]Member, 0, len(known))
	for _, k := range known {
		m := Member{Name: k.Name, ID: k.ID, PeerURLs: k.PeerURLs, ClientURLs: k.ClientURLs, Learner: k.IsLearner}
		if a, ok := byID[k.ID]; ok {
			m.Answers, m.Out, m.Err = a.readErr == nil && !k.IsLearner, a.leaderless, a.readErr
			m.Leader, m.DBSize, m.Quota, m.Version = a.status.Leader == k.ID, a.status.DbSize, a.status.DbSizeQuota, a.status.Version
			m.ClusterID = a.status.Header.ClusterId
		} else {
			m.Err = c.unanswered(k.ClientURLs, answers)
			m.Out = errors.Is(m.Err, syscall.ECONNREFUSED)
		}
		if m.Alarms = alarms[k.ID]; m.Alarms != nil && m.Err == nil {
			m.Err = &AlarmError{m.Alarms}
		}
		m.Healthy = m.Err == nil
		members = append(members, m)
	}
	slices.SortFunc(members, func(a, b Member) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return members
}

// alarm matches the alarms in a member's status (etcdserverpb.AlarmMember).
var alarm = regexp.MustCompile(`memberID:(\d+) +alarm:(\w+)`)

// noteAlarms collects alarms by the member that has raised them: each member reports the alarms of
// all.
func noteAlarms(alarms map[uint64][]string, told []string) {
	for _, text := range told {
		found := alarm.FindStringSubmatch(text)
		if found == nil {
			continue // no leader; its answer also says so
		}
		id, err := strconv.ParseUint(found[1], 10, 64)
		if err == nil && !slices.Contains(alarms[id], found[2]) {
			alarms[id] = append(alarms[id], found[2])
			slices.Sort(alarms[id])
		}
	}
}

// unanswered returns why there is no answer from a member.
func (c *Client) unanswered(urls []string, answers []answer) error {
	for i, e := range c.endpoints {
		if answers[i].err != nil && slices.Contains(urls, "https://"+e.Address) {
			return answers[i].err
		}
	}
	var errs []error // the endpoint may go by another address than the member advertises
	for i, a := range answers {
		if a.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.endpoints[i].Address, a.err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return errors.New("not asked: it is none of the endpoints given")
}

// askTimeout is the timeout for one member, even if ctx allows more.
const askTimeout = 5 * time.Second

const (
	// leaderlessTime is how long a member must see no leader before it counts as leaderless: an
	// election takes up to 2 s (etcd's election timeout is 1 s, plus a random delay of up to 1 s),
	// so a majority may be about to work again.
	leaderlessTime = 3 * time.Second
	// leaderInterval is the interval of queries meanwhile.
	leaderInterval = 100 * time.Millisecond
)

func (c *Client) ask(ctx context.Context, e Endpoint) answer {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	client, err := c.connect(ctx, e)
	if err != nil {
		return answer{err: err}
	}
	defer client.close()
	// All at the same time: each takes some round trips.
	a := answer{}
	reading, end := context.WithCancel(ctx)
	defer end()
	var questions sync.WaitGroup
	questions.Go(func() { a.leaderless, a.readErr = client.read(reading) })
	var list *clientv3.MemberListResponse
	var listErr error
	questions.Go(func() {
		// Not linearizable, so that a member without a majority answers too.
		if list, listErr = client.MemberList(ctx, clientv3.WithSerializable()); listErr != nil {
			end()
		}
	})
	if a.status, a.err = client.Status(ctx, e.Address); a.err != nil || a.status.IsLearner {
		end()
	}
	questions.Wait()
	if err := cmp.Or(a.err, listErr); err != nil {
		return answer{err: err}
	}
	a.members = list.Members
	if a.status.IsLearner { // learners serve no linearizable reads
		a.leaderless, a.readErr = false, nil
	}
	return a
}

// read does a linearizable read, and retries while the member sees no leader. It reports whether
// that lasted for leaderlessTime.
func (c connection) read(ctx context.Context) (leaderless bool, err error) {
	began := time.Now()
	again := time.NewTicker(leaderInterval)
	defer again.Stop()
	for {
		_, now := c.Get(clientv3.WithRequireLeader(ctx), "health")
		if !errors.Is(now, rpctypes.ErrNoLeader) && (err == nil || ctx.Err() == nil) { // the end of ctx itself is no news
			return false, now
		}
		if err == nil || ctx.Err() == nil {
			err = now
		}
		select {
		case <-ctx.Done():
			return time.Since(began) >= leaderlessTime, err
		case <-again.C:
		}
	}
}

// connection is an etcd client on a connection that has been made already.
type connection struct {
	*clientv3.Client
	unused chan net.Conn
}

func (c connection) close() {
	_ = c.Close()
	select {
	case conn := <-c.unused:
		_ = conn.Close()
	default:
	}
}

// connect dials and shakes hands before gRPC does, which would try again until the time is up:
// refused is refused, and a certificate that is not trusted is named.
func (c *Client) connect(ctx context.Context, e Endpoint) (connection, error) {
	first, err := c.dial(ctx, e)
	if err != nil {
		return connection{}, err
	}
	unused := make(chan net.Conn, 1)
	unused <- first
	client, err := clientv3.New(clientv3.Config{
		// "http": TLS is below what gRPC sees.
		Context: ctx, Endpoints: []string{"http://" + e.Address}, Logger: zap.NewNop(), MaxUnaryRetries: 1,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			select {
			case conn := <-unused:
				return conn, nil
			default:
				return c.dial(ctx, e)
			}
		})},
	})
	if err != nil {
		_ = first.Close()
		return connection{}, fmt.Errorf("set up the etcd client: %w", err)
	}
	return connection{client, unused}, nil
}

func (c *Client) dial(ctx context.Context, e Endpoint) (net.Conn, error) {
	server, _, err := net.SplitHostPort(e.Address)
	if err != nil {
		return nil, err
	}
	dial := e.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	conn, err := dial(ctx, "tcp", e.Address)
	if err != nil {
		return nil, err
	}
	config := c.tls.Clone()
	config.ServerName, config.NextProtos = server, []string{"h2"}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secured, nil
}
